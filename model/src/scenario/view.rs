//! One participant's view of the state: the filesystem that the shipped machines are run on.

mod evidence;

use portlock::protocol::{
    Acquire, Age, Author, Clear, Confirm, Create, Dated, Done, FileSystem, Listen, LockReply,
    OpenReply, Probed, ReadReply, Unlink, Watch,
};

use crate::scenario::catalogue::Scenario;
use crate::scenario::machines::{Reply, Script};
use crate::scenario::state::{Activity, Content, Creator, Inode, Kind, Listens, State, Who};

/// A removal of a file, with the facts that P2 checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    pub by: Who,
    /// The remover has the file open.
    pub is_ours: bool,
    /// The remover has its kernel lock, or there are no kernel locks.
    pub locked: bool,
    /// The remover created it.
    pub created: bool,
    /// Its author is a live old agent that has written, or may still write within its grace.
    pub of_live_old_agent: bool,
    /// It has the record of a live participant in another process, which has not given it up.
    pub of_live_other: bool,
    /// Its creator is another participant, and lives.
    pub creator_lives: bool,
    /// It has another program's data.
    pub of_foreign_data: bool,
    /// The path was removed from outside since the remover confirmed.
    pub in_window: bool,
}

/// A participant's view of the state, for one step.
pub struct View<'a> {
    pub state: &'a mut State,
    pub scenario: &'a Scenario,
    pub me: Who,
    /// Which of the possible replies to give.
    pub choice: u8,
    /// The number of possible replies, set by the call.
    pub choices: u8,
    pub reply: Reply,
    /// The call blocks in this state, without an effect.
    pub blocked: bool,
    pub removal: Option<Removal>,
    /// The evidence as a wrong protocol sees it.
    pub rewrite_evidence: fn(Author) -> Author,
    /// Every confirm of a wrong protocol succeeds.
    pub confirms_itself: bool,
    /// Gives the replies instead of the state, which does not change.
    pub script: Option<&'a mut Script>,
}

impl<'a> View<'a> {
    pub fn new(state: &'a mut State, scenario: &'a Scenario, me: Who, choice: u8) -> Self {
        Self {
            state,
            scenario,
            me,
            choice,
            choices: 1,
            reply: Reply::Other("none"),
            blocked: false,
            removal: None,
            rewrite_evidence: |author| author,
            confirms_itself: false,
            script: None,
        }
    }

    /// Chooses among `ways` to succeed and, while there are faults left, `faults` to fail. `Err` is
    /// the number of the fault.
    fn choose(&mut self, ways: u8, faults: u8) -> Result<u8, u8> {
        let faults = if self.state.faults_left > 0 { faults } else { 0 };
        self.choices = ways + faults;
        let choice = self.choice.min(self.choices - 1);
        if choice < ways {
            return Ok(choice);
        }
        self.state.faults_left -= 1;
        if self
            .state
            .open_inode(self.me)
            .and_then(|inode| self.state.file(inode))
            .is_some_and(|file| file.creator != Creator::Alive(self.me))
        {
            self.state.abandon(self.me);
        }
        Err(choice - ways)
    }

    fn inode(&self) -> Inode {
        self.state.open_inode(self.me).expect("the machines call this with a file open")
    }

    /// Takes the kernel lock. The call blocks while another open file has it.
    fn lock_or_block(&mut self) {
        let (open, inode) = (self.state.participant(self.me).open, self.inode());
        let file = self.state.file_mut(inode).expect("open files exist");
        // The first to move gets it: waiters are not queued.
        self.blocked = file.lock.is_some() && file.lock != open;
        if !self.blocked {
            file.lock = open;
        }
    }

    /// The event grants the kernel lock, or is spurious.
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

    /// Removes the file at the path, and returns the facts that P2 checks.
    pub fn remove_path(&mut self) -> Option<Removal> {
        let inode = self.state.path?;
        let file = *self.state.file(inode)?;
        if file.pending {
            return None;
        }
        let (state, me) = (&*self.state, self.me);
        let old_agent = match file.content {
            Content::OldAlive | Content::OldOf(_) => true,
            Content::Empty => match file.creator {
                Creator::Alive(who) => state.participant(who).kind == Kind::OldAgent,
                Creator::Start | Creator::Dead => false,
            },
            // An agent does not complete a record that was cut short.
            Content::Unreadable
            | Content::Foreign
            | Content::Of(_)
            | Content::Dead(_)
            | Content::OldDead(_) => false,
        };
        let removal = Removal {
            by: me,
            is_ours: state.open_inode(me) == Some(inode),
            locked: state.has_lock(me) || !self.has_kernel_locks(),
            created: file.creator == Creator::Alive(me),
            of_live_old_agent: old_agent,
            of_live_other: matches!(
                file.content,
                Content::Of(who) if !state.same_process(who, me)
                    && state.open_inode(who) == Some(inode)
                    && !is_contender(state.participant(who).activity)
            ),
            creator_lives: matches!(file.creator, Creator::Alive(who) if who != me),
            of_foreign_data: file.content == Content::Foreign,
            in_window: state.participant(me).in_window,
        };
        let is_open = state.opened.iter().flatten().any(|opened| opened.file == inode);
        self.state.notify_listeners(inode);
        if self.scenario.delete_pending && is_open {
            if let Some(file) = self.state.file_mut(inode) {
                file.pending = true;
            }
        } else {
            self.state.path = None;
            self.state.sweep();
        }
        self.removal = Some(removal);
        self.removal
    }

    /// Whether this participant has kernel locks.
    fn has_kernel_locks(&self) -> bool {
        self.scenario.kernel_locks && self.state.participant(self.me).kind != Kind::Unlocked
    }
}

/// Whether it is inspecting an existing file: its own record there would be a leftover.
fn is_contender(activity: Activity) -> bool {
    let (Activity::Acquiring(state) | Activity::Clearing(Clear::At(state))) = activity else {
        return matches!(activity, Activity::Asking(_));
    };
    match state {
        Acquire::Opening(_)
        | Acquire::CheckingAge(_)
        | Acquire::ReadingUnlocked(_)
        | Acquire::LockingExisting(_)
        | Acquire::Reading(_)
        | Acquire::Judging(_)
        | Acquire::Confirming(_)
        | Acquire::Unlinking(_)
        | Acquire::Blocked(_)
        | Acquire::Revalidating(_)
        | Acquire::Subscribing(_)
        | Acquire::Rechecking(_)
        | Acquire::Retrying(_)
        | Acquire::Listening(_) => true,
        // The close of a new file, or of one that blocked.
        Acquire::Closing(_) => true,
        Acquire::Creating(_)
        | Acquire::LockingCreated(_)
        | Acquire::Recording(_)
        | Acquire::ConfirmingCreated(_)
        | Acquire::CleanupLocking(_)
        | Acquire::CleanupVerifying(_)
        | Acquire::CleanupUnlinking(_)
        | Acquire::Truncating(_)
        | Acquire::Pausing(_)
        | Acquire::Held(_)
        | Acquire::Refused(_)
        | Acquire::Failed(_) => false,
    }
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
        let present = self.state.named().copied();
        // A fault is an error, or a temporary denial: see `Create::Denied`.
        let fault = |fault| if fault == 0 { Create::Failed } else { Create::Denied };
        let reply = match present {
            None => match self.choose(1, 2) {
                Ok(_) => {
                    let me = self.me;
                    let inode = self.state.place(Content::Empty, Creator::Alive(me));
                    self.state.open(me, inode);
                    Create::Created
                }
                Err(which) => fault(which),
            },
            // Newer systems report that the name exists, older ones deny access.
            Some(file) if file.pending => match self.choose(2, 1) {
                Ok(0) => Create::Exists,
                Ok(_) => Create::Denied,
                Err(_) => Create::Failed,
            },
            Some(_) => match self.choose(1, 2) {
                Ok(_) => Create::Exists,
                Err(which) => fault(which),
            },
        };
        self.reply = Reply::Create(reply);
        reply
    }

    fn open(&mut self) -> OpenReply {
        scripted!(self.open: Open);
        self.state.participant_mut(self.me).seen = Content::Empty;
        // The cause of a denial may no longer exist at the next call, or even at the reply.
        let fault = |fault| if fault == 0 { OpenReply::Failed } else { OpenReply::Denied };
        let reply = match (self.state.path, self.state.named().copied()) {
            (Some(inode), Some(file)) => {
                // A name that is being deleted is denied by some systems and opened by others.
                let ways = if file.pending && !self.scenario.windows { 2 } else { 1 };
                match self.choose(ways, 2) {
                    Ok(0) if !file.pending || ways == 2 => {
                        self.state.open(self.me, inode);
                        OpenReply::Opened
                    }
                    Ok(_) => OpenReply::Denied,
                    Err(which) => fault(which),
                }
            }
            (None, _) | (_, None) => match self.choose(1, 2) {
                Ok(_) => OpenReply::Absent,
                Err(which) => fault(which),
            },
        };
        self.reply = Reply::Open(reply);
        reply
    }

    fn age(&mut self) -> Dated {
        scripted!(self.age: Age);
        let ways = if self.state.may_look_old(self.me) { 2 } else { 1 };
        let reply = match self.choose(ways, 1) {
            Ok(0) => Dated::Known(Age::Young),
            Ok(_) => Dated::Known(Age::Old),
            Err(_) => Dated::Failed,
        };
        self.reply = Reply::Age(reply);
        reply
    }

    fn lock(&mut self) -> LockReply {
        scripted!(self.lock: Lock);
        let open = self.state.participant(self.me).open;
        let inode = self.inode();
        let reply = if self.state.participant(self.me).kind == Kind::Remote {
            // No other participant is on its mount.
            match self.choose(1, 1) {
                Ok(_) => LockReply::Ours,
                Err(_) => LockReply::Failed,
            }
        } else if !self.has_kernel_locks() {
            // The filesystem gives all participants the same reply, unless the call fails.
            match self.choose(1, 1) {
                Ok(_) => LockReply::Unsupported,
                Err(_) => LockReply::Failed,
            }
        } else {
            match self.choose(1, 1) {
                Err(_) => LockReply::Failed,
                Ok(_) => {
                    let file = self.state.file_mut(inode).expect("open files exist");
                    if file.lock.is_none() || file.lock == open {
                        file.lock = open;
                        LockReply::Ours
                    } else {
                        LockReply::Busy
                    }
                }
            }
        };
        self.reply = Reply::Lock(reply);
        reply
    }

    fn subscribe(&mut self) {
        if let Some(script) = &mut self.script {
            return script.subscribe();
        }
        if !self.scenario.windows {
            self.state.participant_mut(self.me).listens = Listens::Armed;
        }
        self.reply = Reply::Arm;
    }

    fn wait_event(&mut self) -> Listen {
        scripted!(self.wait_event: Listen);
        if self.scenario.windows {
            return self.listen_by_lock();
        }
        // The timeout may expire at any time.
        let reply = match self.choose(2, 1) {
            Ok(0) => {
                let participant = self.state.participant_mut(self.me);
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
        // A failed write leaves an empty file, or a part of the record.
        let (content, reply) = match self.choose(1, 2) {
            Ok(_) => (Content::Of(me), Done::Done),
            Err(0) => (Content::Empty, Done::Failed),
            Err(_) => (Content::Unreadable, Done::Failed),
        };
        self.state.file_mut(inode).expect("open files exist").content = content;
        self.reply = Reply::Write(reply);
        reply
    }

    fn read(&mut self) -> ReadReply {
        scripted!(self.read: Read);
        let content = self.state.file(self.inode()).expect("open files exist").content;
        let reply = match self.choose(1, 1) {
            Ok(_) => {
                let participant = self.state.participant_mut(self.me);
                participant.seen = if content.is_record() { content } else { Content::Empty };
                match content {
                    Content::Empty => ReadReply::Empty,
                    Content::Unreadable => ReadReply::Unreadable,
                    Content::Foreign => ReadReply::Foreign,
                    Content::Of(_)
                    | Content::OldOf(_)
                    | Content::OldAlive
                    | Content::Dead(_)
                    | Content::OldDead(_) => ReadReply::Record,
                }
            }
            Err(_) => ReadReply::Failed,
        };
        self.reply = Reply::Read(reply);
        reply
    }

    fn probe(&mut self) -> Probed {
        let reply = if let Some(script) = &mut self.script {
            script.probe()
        } else {
            self.probe_the_scenario()
        };
        let reply = match reply {
            Probed::Known(author) => Probed::Known((self.rewrite_evidence)(author)),
            Probed::Failed => Probed::Failed,
        };
        self.reply = Reply::Probe(reply);
        reply
    }

    fn confirm(&mut self) -> Confirm {
        scripted!(self.confirm: Confirm);
        let reached = !self.state.participant(self.me).out_of_reach;
        let same = self.confirms_itself
            || (reached
                && self.state.path == Some(self.inode())
                && !self.state.named().is_some_and(|file| file.pending));
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

    fn truncate(&mut self) -> Done {
        scripted!(self.truncate: Void);
        let inode = self.inode();
        let reply = match self.choose(1, 1) {
            Ok(_) => {
                self.state.file_mut(inode).expect("open files exist").content = Content::Unreadable;
                Done::Done
            }
            Err(_) => Done::Failed,
        };
        self.reply = Reply::Void(reply);
        reply
    }

    fn query_lock(&mut self) -> Watch {
        scripted!(self.query_lock: Watch);
        let locked = self.state.file(self.inode()).is_some_and(|file| file.lock.is_some());
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
        self.state.unlock(self.me);
        self.state.close(self.me);
        self.reply = Reply::Close;
    }

    fn close_without_unlock(&mut self) {
        if let Some(script) = &mut self.script {
            return script.close_without_unlock();
        }
        self.state.close(self.me);
        self.reply = Reply::Leave;
    }
}
