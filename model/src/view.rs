//! One participant's view of the world: the filesystem that the shipped machines are run on.

use std::sync::LazyLock;

use portlock::protocol::{
    Age, Author, Confirm, Create, Dated, Done, Evidence, FileSystem, KernelLock, Listen, Lock,
    Open, Probe, Read, Unlink, Wait, Watch, judge,
};

use crate::machines::{Reply, Script, evidence};
use crate::world::{Content, Creator, Inode, Kind, Listens, Look, Who, World};
use crate::worlds::Config;

/// A file lost its name, and what P2 asks about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    pub by: Who,
    /// It is the file that the remover has open.
    pub is_ours: bool,
    /// The remover has its kernel lock, or there are none.
    pub locked: bool,
    /// The remover created it.
    pub created: bool,
    /// Its author is an old agent that lives and has written, or may still within its grace.
    pub of_live_old_agent: bool,
    /// It is the record of a participant that lives in another process.
    pub of_live_other: bool,
    /// Its creator lives, and is another.
    pub creator_lives: bool,
    /// Somebody outside the protocol removed the path since the remover confirmed.
    pub in_window: bool,
}

/// What a participant sees and does; made for one step.
pub struct View<'a> {
    pub world: &'a mut World,
    pub config: &'a Config,
    pub me: Who,
    /// Which of the possible replies to give.
    pub choice: u8,
    /// How many replies were possible: set by the call.
    pub choices: u8,
    pub reply: Reply,
    /// The call does not return in this world: nothing happens.
    pub blocked: bool,
    pub removal: Option<Removal>,
    /// How a wrong protocol sees the evidence.
    pub doctor: fn(Evidence) -> Evidence,
    /// How a wrong protocol sees a confirm.
    pub confirms_itself: bool,
    /// Gives the replies instead of the world, to which nothing happens.
    pub script: Option<&'a mut Script>,
}

impl<'a> View<'a> {
    pub fn new(world: &'a mut World, config: &'a Config, me: Who, choice: u8) -> Self {
        Self {
            world,
            config,
            me,
            choice,
            choices: 1,
            reply: Reply::Other("none"),
            blocked: false,
            removal: None,
            doctor: |evidence| evidence,
            confirms_itself: false,
            script: None,
        }
    }

    /// Chooses among `ways` to succeed and, while there are faults left, `faults` to fail.
    /// `Err` is which fault.
    fn choose(&mut self, ways: u8, faults: u8) -> Result<u8, u8> {
        let faults = if self.world.faults_left > 0 { faults } else { 0 };
        self.choices = ways + faults;
        let choice = self.choice.min(self.choices - 1);
        if choice < ways {
            return Ok(choice);
        }
        self.world.faults_left -= 1;
        if self
            .world
            .open_inode(self.me)
            .and_then(|inode| self.world.file(inode))
            .is_some_and(|file| file.creator != Creator::Alive(self.me))
        {
            self.world.abandon(self.me);
        }
        Err(choice - ways)
    }

    fn inode(&self) -> Inode {
        self.world.open_inode(self.me).expect("the machines call this with a file open")
    }

    /// Takes the kernel lock; where somebody else has it, the call does not return.
    fn lock_or_block(&mut self) {
        let (open, inode) = (self.world.participant(self.me).open, self.inode());
        let file = self.world.file_mut(inode).expect("open files exist");
        // Whoever moves first gets it: who waits has no claim.
        self.blocked = file.lock.is_some() && file.lock != open;
        if !self.blocked {
            file.lock = open;
        }
    }

    /// The event is that the kernel lock is ours, or it is for nothing.
    fn listen_by_lock(&mut self) -> Listen {
        let reply = match self.choose(3, 1) {
            Ok(0) => {
                self.lock_or_block();
                Listen::Event
            }
            Ok(1) => Listen::Over,
            Ok(_) => Listen::Event,
            Err(_) => Listen::Failed,
        };
        self.reply = Reply::Listen(reply);
        reply
    }

    /// Removes the path, whatever it names, and says what P2 asks.
    pub fn remove_path(&mut self) -> Option<Removal> {
        let inode = self.world.path?;
        let file = *self.world.file(inode)?;
        if file.pending {
            return None;
        }
        let (world, me) = (&*self.world, self.me);
        let old_agent = match file.content {
            Content::OldAlive | Content::OldOf(_) => true,
            Content::Empty | Content::Garbage => match file.creator {
                Creator::Alive(who) => world.participant(who).kind == Kind::OldAgent,
                Creator::Start | Creator::Dead => false,
            },
            Content::Of(_) | Content::Dead(_) | Content::OldDead(_) => false,
        };
        let removal = Removal {
            by: me,
            is_ours: world.open_inode(me) == Some(inode),
            locked: world.has_lock(me) || !self.config.kernel_locks,
            created: file.creator == Creator::Alive(me),
            of_live_old_agent: old_agent,
            of_live_other: matches!(file.content, Content::Of(who) if !world.same_process(who, me)),
            creator_lives: matches!(file.creator, Creator::Alive(who) if who != me),
            in_window: world.participant(me).in_window,
        };
        let is_open = world.opened.iter().flatten().any(|opened| opened.file == inode);
        self.world.tell(inode);
        if self.config.delete_pending && is_open {
            if let Some(file) = self.world.file_mut(inode) {
                file.pending = true;
            }
        } else {
            self.world.path = None;
            self.world.sweep();
        }
        self.removal = Some(removal);
        self.removal
    }

    fn truth(&self, content: Content, choice: u8) -> Evidence {
        let alive = if choice == 0 { Probe::Alive } else { Probe::NotPermitted };
        match content {
            Content::Empty | Content::Garbage => Evidence::Nothing(Age::Young),
            Content::Of(author) if self.world.same_process(author, self.me) => {
                Evidence::Record(Author::Here, Probe::Ourselves)
            }
            Content::Of(_) => Evidence::Record(Author::Here, alive),
            Content::OldOf(_) | Content::OldAlive => Evidence::Record(Author::OldFormat, alive),
            Content::Dead(Look::Gone) => Evidence::Record(Author::Here, Probe::Gone),
            Content::Dead(Look::Zombie) => Evidence::Record(Author::Here, Probe::Zombie),
            Content::Dead(Look::Reused) => Evidence::Record(Author::Here, Probe::Other),
            Content::Dead(Look::Thread) => Evidence::Record(Author::Here, Probe::Thread),
            Content::Dead(Look::EarlierBoot) => {
                Evidence::Record(Author::EarlierBoot, Probe::Unknown)
            }
            Content::Dead(Look::OtherNamespace) => {
                Evidence::Record(Author::OtherNamespace, Probe::Unknown)
            }
            Content::OldDead(Look::Zombie) => Evidence::Record(Author::OldFormat, Probe::Zombie),
            Content::OldDead(Look::Reused) => {
                Evidence::Record(Author::OldFormat, Probe::StartedLater)
            }
            Content::OldDead(Look::Thread) => Evidence::Record(Author::OldFormat, Probe::Thread),
            Content::OldDead(Look::Gone | Look::EarlierBoot | Look::OtherNamespace) => {
                Evidence::Record(Author::OldFormat, Probe::Gone)
            }
        }
    }
}

/// All evidence that comes from a record.
fn every_record() -> &'static [Evidence] {
    static RECORDS: LazyLock<Vec<Evidence>> = LazyLock::new(|| {
        let of_a_record = |found: &Evidence| matches!(found, Evidence::Record(..));
        evidence().into_iter().filter(of_a_record).collect()
    });
    &RECORDS
}

/// Of all evidence, one for each way in which the judge can decide on it.
fn lies() -> &'static [Evidence] {
    static LIES: LazyLock<Vec<Evidence>> = LazyLock::new(|| {
        let mut known = Vec::new();
        let mut lies = every_record().to_vec();
        lies.retain(|&lie| {
            let verdicts = [KernelLock::Ours, KernelLock::Busy, KernelLock::Unsupported]
                .map(|lock| judge(lock, lie));
            let new = !known.contains(&verdicts);
            if new {
                known.push(verdicts);
            }
            new
        });
        lies
    });
    &LIES
}

/// Gives the scripted reply, where there is a script.
macro_rules! scripted {
    ($view:ident.$method:ident: $kind:ident) => {
        if let Some(script) = &mut $view.script {
            let reply = script.$method();
            $view.reply = Reply::$kind(reply);
            return reply;
        }
    };
}

impl FileSystem for View<'_> {
    fn create(&mut self) -> Create {
        scripted!(self.create: Create);
        let stands = self.world.named().copied();
        let reply = match stands {
            None => match self.choose(1, 1) {
                Ok(_) => {
                    let me = self.me;
                    let inode = self.world.place(Content::Empty, Age::Young, Creator::Alive(me));
                    self.world.open(me, inode);
                    Create::Created
                }
                Err(_) => Create::Failed,
            },
            // Newer systems say that the name exists, older ones deny access.
            Some(file) if file.pending => match self.choose(2, 1) {
                Ok(0) => Create::Exists,
                Ok(_) => Create::Denied,
                Err(_) => Create::Failed,
            },
            Some(_) => match self.choose(1, 1) {
                Ok(_) => Create::Exists,
                Err(_) => Create::Failed,
            },
        };
        self.reply = Reply::Create(reply);
        reply
    }

    fn open(&mut self) -> Open {
        scripted!(self.open: Open);
        self.world.participant_mut(self.me).seen = Content::Empty;
        let reply = match (self.world.path, self.world.named().copied()) {
            (Some(inode), Some(file)) => {
                // A name that is being deleted is denied by some systems and opened by others.
                let ways = if file.pending && !self.config.windows { 2 } else { 1 };
                match self.choose(ways, 1) {
                    Ok(0) if !file.pending || ways == 2 => {
                        self.world.open(self.me, inode);
                        Open::Opened
                    }
                    Ok(_) => Open::Denied,
                    Err(_) => Open::Failed,
                }
            }
            (None, _) | (_, None) => match self.choose(1, 1) {
                Ok(_) => Open::Absent,
                Err(_) => Open::Failed,
            },
        };
        self.reply = Reply::Open(reply);
        reply
    }

    fn age(&mut self) -> Dated {
        scripted!(self.age: Age);
        let file = *self.world.file(self.inode()).expect("open files exist");
        let reply = if file.content.is_record() {
            match self.choose(2, 1) {
                Ok(0) => Dated::Known(Age::Young),
                Ok(_) => Dated::Known(Age::Old),
                Err(_) => Dated::Failed,
            }
        } else {
            match self.choose(1, 1) {
                Ok(_) => Dated::Known(file.age),
                Err(_) => Dated::Failed,
            }
        };
        self.reply = Reply::Age(reply);
        reply
    }

    fn lock(&mut self) -> Lock {
        scripted!(self.lock: Lock);
        let open = self.world.participant(self.me).open;
        let inode = self.inode();
        let reply = if !self.config.kernel_locks {
            // The answer is the filesystem's, and the same for all, unless the call fails.
            match self.choose(1, 1) {
                Ok(_) => Lock::Unsupported,
                Err(_) => Lock::Failed,
            }
        } else {
            match self.choose(1, 1) {
                Err(_) => Lock::Failed,
                Ok(_) => {
                    let file = self.world.file_mut(inode).expect("open files exist");
                    if file.lock.is_none() || file.lock == open {
                        file.lock = open;
                        Lock::Ours
                    } else {
                        Lock::Busy
                    }
                }
            }
        };
        self.reply = Reply::Lock(reply);
        reply
    }

    fn wait(&mut self) -> Wait {
        scripted!(self.wait: Wait);
        let reply = match self.choose(1, 1) {
            Ok(_) if !self.config.kernel_locks => Wait::Failed,
            Ok(_) => {
                self.lock_or_block();
                Wait::Ours
            }
            Err(_) => Wait::Failed,
        };
        self.reply = Reply::Wait(reply);
        reply
    }

    fn arm(&mut self) {
        if let Some(script) = &mut self.script {
            return script.arm();
        }
        if !self.config.windows {
            self.world.participant_mut(self.me).listens = Listens::Armed;
        }
        self.reply = Reply::Arm;
    }

    fn listen(&mut self) -> Listen {
        scripted!(self.listen: Listen);
        if self.config.windows {
            return self.listen_by_lock();
        }
        // The time may be over at any time.
        let reply = match self.choose(2, 1) {
            Ok(0) => {
                let participant = self.world.participant_mut(self.me);
                self.blocked = participant.listens != Listens::Event;
                participant.listens = Listens::Armed;
                Listen::Event
            }
            Ok(_) => Listen::Over,
            Err(_) => Listen::Failed,
        };
        self.reply = Reply::Listen(reply);
        reply
    }

    fn write(&mut self) -> Done {
        scripted!(self.write: Write);
        let (me, inode) = (self.me, self.inode());
        // A failed write leaves the file empty, or with a part of the record.
        let (content, reply) = match self.choose(1, 2) {
            Ok(_) => (Content::Of(me), Done::Done),
            Err(0) => (Content::Empty, Done::Failed),
            Err(_) => (Content::Garbage, Done::Failed),
        };
        let file = self.world.file_mut(inode).expect("open files exist");
        file.content = content;
        file.age = Age::Young;
        self.reply = Reply::Write(reply);
        reply
    }

    fn read(&mut self) -> Read {
        scripted!(self.read: Read);
        let content = self.world.file(self.inode()).expect("open files exist").content;
        let reply = match self.choose(1, 1) {
            Ok(_) => {
                let participant = self.world.participant_mut(self.me);
                participant.seen = if content.is_record() { content } else { Content::Empty };
                if content.is_record() { Read::Record } else { Read::Nothing }
            }
            Err(_) => Read::Failed,
        };
        self.reply = Reply::Read(reply);
        reply
    }

    fn probe(&mut self) -> Evidence {
        if let Some(script) = &mut self.script {
            let reply = (self.doctor)(script.probe());
            self.reply = Reply::Probe(reply);
            return reply;
        }
        let seen = self.world.participant(self.me).seen;
        let reply = if self.config.probe_lies {
            let lies = if self.config.every_lie { every_record() } else { lies() };
            let choice = self.choose(lies.len() as u8, 0).unwrap_or(0);
            lies[usize::from(choice)]
        } else {
            let lives = matches!(seen, Content::Of(_) | Content::OldOf(_) | Content::OldAlive);
            let ways = if lives && self.config.asks_may_be_denied { 2 } else { 1 };
            let choice = self.choose(ways, 0).unwrap_or(0);
            self.truth(seen, choice)
        };
        let reply = (self.doctor)(reply);
        self.reply = Reply::Probe(reply);
        reply
    }

    fn confirm(&mut self) -> Confirm {
        scripted!(self.confirm: Confirm);
        let same = self.confirms_itself
            || (self.world.path == Some(self.inode())
                && !self.world.named().is_some_and(|file| file.pending));
        let reply = match self.choose(1, 1) {
            Ok(_) if same => Confirm::Same,
            Ok(_) => Confirm::Changed,
            Err(_) => Confirm::Failed,
        };
        self.reply = Reply::Confirm(reply);
        reply
    }

    fn unlink(&mut self) -> Unlink {
        scripted!(self.unlink: Unlink);
        let reply = match self.choose(1, 1) {
            Ok(_) => match self.remove_path() {
                Some(_) => Unlink::Unlinked,
                None => Unlink::Absent,
            },
            Err(_) => Unlink::Failed,
        };
        self.reply = Reply::Unlink(reply);
        reply
    }

    fn void(&mut self) -> Done {
        scripted!(self.void: Void);
        let inode = self.inode();
        let reply = match self.choose(1, 1) {
            Ok(_) => {
                let file = self.world.file_mut(inode).expect("open files exist");
                file.content = Content::Empty;
                file.age = Age::Young;
                Done::Done
            }
            Err(_) => Done::Failed,
        };
        self.reply = Reply::Void(reply);
        reply
    }

    fn watch(&mut self) -> Watch {
        scripted!(self.watch: Watch);
        let locked = self.world.file(self.inode()).is_some_and(|file| file.lock.is_some());
        let reply = match self.choose(2, 0) {
            Ok(0) if locked => Watch::Held,
            Ok(0) => Watch::Free,
            Ok(_) | Err(_) => Watch::Unknown,
        };
        self.reply = Reply::Watch(reply);
        reply
    }

    fn close(&mut self) {
        if let Some(script) = &mut self.script {
            return script.close();
        }
        self.world.unlock(self.me);
        self.world.close(self.me);
        self.reply = Reply::Close;
    }

    fn leave(&mut self) {
        if let Some(script) = &mut self.script {
            return script.leave();
        }
        self.world.close(self.me);
        self.reply = Reply::Leave;
    }
}
