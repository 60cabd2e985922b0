//! The ends of calls, processes and files.

use super::{Content, Creator, FileSet, Inode, Kind, Look, State, Who};

impl State {
    /// Marks the file of a lock owner that dies or fails, even if another created it: the creator
    /// may have left it to this reclaimer.
    pub fn abandon(&mut self, who: Who) {
        if self.has_lock(who) {
            if let Some(file) = self.open_file_mut(who) {
                file.abandoned = true;
            }
        }
    }

    /// A participant's process dies: its files are closed, and its records name a dead process.
    pub fn crash(&mut self, who: Who, look: Look) {
        for one in self.everyone() {
            if !self.same_process(who, one) {
                continue;
            }
            self.abandon(one);
            self.close(one);
            self.aside[usize::from(one)] = None;
            if self.guard == Some(one) {
                self.guard = None;
            }
            let participant = self.participant_mut(one);
            participant.activity = participant.kind.at_rest();
            let look = match participant.kind {
                Kind::Unlocked => Look::Unlocked,
                Kind::Remote => Look::OnOtherMachine,
                _ => look,
            };
            participant.suspended = false;
            participant.out_of_reach = false;
            self.forget_call(one);
            for file in self.files.iter_mut().flatten() {
                file.content = buried(file.content, one, look);
                if file.creator == Creator::Alive(one) {
                    file.creator = Creator::Dead;
                }
            }
            for other in &mut self.participants {
                other.seen = buried(other.seen, one, look);
            }
        }
        self.sweep();
    }

    /// Frees the files that are neither named nor open, and the pending names.
    pub fn sweep(&mut self) {
        let bit = |inode: Inode| -> FileSet { 1 << inode };
        let open = self.opened.iter().flatten().fold(0, |open, one| open | bit(one.file));
        let pending = self.named().is_some_and(|file| file.pending);
        if pending && self.path.is_some_and(|inode| open & bit(inode) == 0) {
            self.path = None;
        }
        let named = self.path.iter().chain(self.aside.iter().flatten());
        let kept = named.fold(open, |kept, &inode| kept | bit(inode));
        let mut freed = 0;
        for (inode, file) in self.files.iter_mut().enumerate() {
            if kept & (1 << inode) == 0 && file.take().is_some() {
                freed |= 1 << inode;
            }
        }
        if freed != 0 {
            for participant in &mut self.participants {
                participant.witnessed &= !freed;
            }
        }
    }

    /// Clears what a participant remembered of a call that has ended.
    pub fn forget_call(&mut self, who: Who) {
        let participant = self.participant_mut(who);
        participant.seen = Content::Empty;
        participant.witnessed = 0;
        participant.in_window = false;
    }
}

/// `content`, after the process of `who` has died.
fn buried(content: Content, who: Who, look: Look) -> Content {
    match content {
        Content::Of(author) if author == who => Content::Dead(look),
        Content::OldOf(author) if author == who => Content::OldDead(look),
        other => other,
    }
}
