//! stub
use portlock_model::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args[1].parse().unwrap();
    let which = args.get(2).cloned();
    for c in worlds::Config::all(n) {
        if which.as_deref().is_some_and(|w| w != c.name && w != "variants") {
            continue;
        }
        if which.as_deref() == Some("variants") {
            break;
        }
        let seen = explore::explore(
            &c,
            &variants::SHIPPED,
            explore::Limits { states: 60_000_000, progress: true },
        );
        match seen {
            Ok(s) => {
                println!(
                    "{:16} {:9} states {:10} transitions depth {:3} alone {:3} {:?} {}",
                    c.name,
                    s.states,
                    s.transitions,
                    s.depth,
                    s.longest_alone,
                    s.took,
                    s.coverage.sometimes.len()
                );
                if let Some(f) = s.found {
                    println!(
                        "{}",
                        report::report(
                            &c,
                            &variants::SHIPPED,
                            &f,
                            report::Origin { variant: None, participants: n }
                        )
                    );
                }
            }
            Err(e) => println!("{} {e:?}", c.name),
        }
    }
    if which.as_deref() == Some("variants") {
        for v in variants::all() {
            if args.get(3).is_some_and(|a| a != v.name) {
                continue;
            }
            match v.caught {
                variants::Caught::Breaks { promise, world, participants } => {
                    let mut c = worlds::Config::named(world, participants).unwrap();
                    let owed = [promise];
                    c.owed = Box::leak(Box::new(owed));
                    let s = explore::explore(
                        &c,
                        &v.protocol,
                        explore::Limits { states: 60_000_000, progress: false },
                    )
                    .unwrap();
                    println!(
                        "{:40} {promise} {world} {participants} {} {:?}",
                        v.name, s.states, s.took
                    );
                    match s.found {
                        None => println!("   NOT CAUGHT"),
                        Some(f) => {
                            let r = report::report(
                                &c,
                                &v.protocol,
                                &f,
                                report::Origin { variant: Some(v.name), participants },
                            );
                            if args.len() > 3 {
                                println!("{r}")
                            } else {
                                println!("{}", r.lines().nth(1).unwrap())
                            }
                        }
                    }
                }
                variants::Caught::Harmless { .. } => {
                    for c in worlds::Config::all(2)
                        .into_iter()
                        .chain([worlds::Config::named("base", 3).unwrap()])
                    {
                        let s = explore::explore(
                            &c,
                            &v.protocol,
                            explore::Limits { states: 60_000_000, progress: false },
                        )
                        .unwrap();
                        println!("{:40} {} {:?}", v.name, c.name, s.found.map(|f| f.promise));
                    }
                }
            }
        }
    }
}
