//! The canonical form of a state: of all states that differ only by the names of participants,
//! files and open files, the search keeps one.

use super::{Content, Creator, FILES, Inode, OpenFile, Opened, PARTICIPANTS, State, Who};

impl State {
    /// The same state with participants of a kind sorted and files numbered in order of mention,
    /// because the names of participants and the numbers of inodes make no difference.
    ///
    /// Also returns the new index of each participant. States that differ only by ties in the sort
    /// are counted separately, which costs states and loses none.
    pub fn canonical(&self) -> (Self, [Who; PARTICIPANTS]) {
        let count = usize::from(self.count);
        let mut order: [usize; PARTICIPANTS] = std::array::from_fn(|index| index);
        let keys: [_; PARTICIPANTS] =
            std::array::from_fn(|index| (index < count).then(|| self.sort_key(index)));
        order[..count].sort_by(|&one, &other| keys[one].cmp(&keys[other]));
        let mut went: [Who; PARTICIPANTS] = [0; PARTICIPANTS];
        for (new, &old) in order.iter().enumerate() {
            went[old] = new as Who;
        }

        let mut inodes = [None; FILES];
        let mut next_inode = 0;
        let mut number = |inode: Option<Inode>| {
            if let Some(inode) = inode.filter(|&inode| inodes[usize::from(inode)].is_none()) {
                inodes[usize::from(inode)] = Some(next_inode as Inode);
                next_inode += 1;
            }
        };
        number(self.path);
        let mut opens = [None; FILES];
        let mut next_open = 0;
        for &old in &order[..count] {
            number(self.open_inode(old as Who));
            number(self.aside[old]);
            let open = self.participants[old].open;
            if let Some(open) = open.filter(|&open| opens[usize::from(open)].is_none()) {
                opens[usize::from(open)] = Some(next_open as OpenFile);
                next_open += 1;
            }
        }

        let rename = |content: Content| content.with_author(|who| went[usize::from(who)]);
        let mut new = *self;
        new.path = self.path.and_then(|inode| inodes[usize::from(inode)]);
        new.files = [None; FILES];
        for (old, file) in self.files.iter().enumerate() {
            let (Some(mut file), Some(inode)) = (*file, inodes[old]) else { continue };
            file.content = rename(file.content);
            if let Creator::Alive(who) = file.creator {
                file.creator = Creator::Alive(went[usize::from(who)]);
            }
            file.lock = file.lock.and_then(|open| opens[usize::from(open)]);
            new.files[usize::from(inode)] = Some(file);
        }
        new.opened = [None; FILES];
        for (old, opened) in self.opened.iter().enumerate() {
            let (Some(opened), Some(open)) = (opened, opens[old]) else { continue };
            let shared_by = (0..count)
                .filter(|&who| opened.shared_by & (1 << who) != 0)
                .fold(0, |bits, who| bits | 1 << went[who]);
            let file = inodes[usize::from(opened.file)].unwrap_or(opened.file);
            new.opened[usize::from(open)] = Some(Opened { file, shared_by });
        }
        for (place, &old) in order[..count].iter().enumerate() {
            let mut participant = self.participants[old];
            participant.open = participant.open.and_then(|open| opens[usize::from(open)]);
            participant.seen = rename(participant.seen);
            let witnessed = std::mem::take(&mut participant.witnessed);
            for (inode, new) in inodes.iter().enumerate() {
                if let Some(new) = new.filter(|_| witnessed & (1 << inode) != 0) {
                    participant.witnessed |= 1 << new;
                }
            }
            new.participants[place] = participant;
            new.aside[place] = self.aside[old].and_then(|inode| inodes[usize::from(inode)]);
        }
        new.guard = self.guard.map(|who| went[usize::from(who)]);
        (new, went)
    }

    /// Distinguishes participants of a kind without their names.
    pub(super) fn sort_key(&self, index: usize) -> impl Ord + use<> {
        let who = index as Who;
        let participant = self.participants[index];
        let inode = self.open_inode(who);
        let seen = match participant.seen {
            Content::Of(author) => Content::Of(Who::from(author == who)),
            Content::OldOf(author) => Content::OldOf(Who::from(author == who)),
            other => other,
        };
        let at_path = inode.is_some() && inode == self.path;
        let file = inode.and_then(|inode| self.file(inode));
        let mine = file.is_some_and(|file| file.creator == Creator::Alive(who));
        let witnessed_mine = inode.is_some_and(|inode| participant.witnessed & (1 << inode) != 0);
        let witnessed_path =
            self.path.is_some_and(|inode| participant.witnessed & (1 << inode) != 0);
        let named = self.named().is_some_and(|file| {
            matches!(file.content, Content::Of(author) | Content::OldOf(author) if author == who)
        });
        (
            participant.kind,
            participant.activity,
            (participant.suspended, participant.out_of_reach),
            (participant.in_window, participant.listens, seen),
            (at_path, self.has_lock(who), mine, named),
            (witnessed_mine, witnessed_path),
        )
    }
}
