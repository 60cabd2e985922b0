// proper-lockfile. See README.md for the protocol.
'use strict';

const readline = require('readline');
const lockfile = require(process.env.PEERS_CACHE + '/node_modules/proper-lockfile');

const [role, , file, microseconds] = process.argv.slice(2);
const hold = BigInt(microseconds) * 1000n;
const now = process.hrtime.bigint;
// By default it does not wait. Polls forever, as often as filelock.
const retries = { forever: true, factor: 1, minTimeout: 50, maxTimeout: 50 };
const acquire = () => lockfile.lock(file, { realpath: false, retries });

async function contend(end) {
    const lines = [];
    while (now() < end) {
        const release = await acquire();
        const got = now();
        while (now() < got + hold);
        lines.push(`${got} ${now()}`);
        await release();
    }
    console.log(lines.join('\n'));
}

async function once() {
    const release = await acquire();
    console.log(role === 'hold' ? 'held' : String(now()));
    // The package's timer, which renews the lock, keeps the process alive.
    if (role !== 'hold') await release();
}

const input = readline.createInterface({ input: process.stdin });
input.once('line', async (line) => {
    input.close();
    await (role === 'contend' ? contend(BigInt(line)) : once());
});
console.log('ready');
