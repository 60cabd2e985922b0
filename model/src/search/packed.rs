//! Packed canonical states: only the participants, files and open files that exist.

use crate::scenario::state::{File, Inode, Kind, Opened, PARTICIPANTS, Participant, State, Who};

#[derive(Debug, Default)]
pub struct Packed {
    heads: Vec<Head>,
    participants: Vec<Participant>,
    asides: Vec<Option<Inode>>,
    files: Vec<File>,
    opened: Vec<Opened>,
}

/// The scalar part of a state, and the positions of its lists.
#[derive(Debug, Clone, Copy)]
struct Head {
    path: Option<Inode>,
    guard: Option<Who>,
    crashes_left: u8,
    faults_left: u8,
    removals_left: u8,
    suspensions_left: u8,
    chroots_left: u8,
    removal_failed: bool,
    robbed: bool,
    count: u8,
    file_count: u8,
    opened_count: u8,
    participants_at: u32,
    files_at: u32,
    opened_at: u32,
}

impl Packed {
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    pub fn push(&mut self, state: &State) {
        let State {
            path,
            files,
            opened,
            participants,
            count,
            guard,
            aside,
            crashes_left,
            faults_left,
            removals_left,
            suspensions_left,
            chroots_left,
            removal_failed,
            robbed,
        } = *state;
        let (participants_at, files_at, opened_at) = self.ends();
        self.participants.extend(&participants[..usize::from(count)]);
        self.asides.extend(&aside[..usize::from(count)]);
        // Files and open files are numbered without gaps.
        self.files.extend(files.iter().flatten());
        self.opened.extend(opened.iter().flatten());
        self.heads.push(Head {
            path,
            guard,
            crashes_left,
            faults_left,
            removals_left,
            suspensions_left,
            chroots_left,
            removal_failed,
            robbed,
            count,
            file_count: (self.files.len() - files_at as usize) as u8,
            opened_count: (self.opened.len() - opened_at as usize) as u8,
            participants_at,
            files_at,
            opened_at,
        });
    }

    /// Adds a state of another list.
    pub fn push_from(&mut self, other: &Self, number: usize) {
        let (participants_at, files_at, opened_at) = self.ends();
        let head = other.heads[number];
        self.participants.extend(other.participants_of(&head));
        self.asides.extend(other.asides_of(&head));
        self.files.extend(other.files_of(&head));
        self.opened.extend(other.opened_of(&head));
        self.heads.push(Head { participants_at, files_at, opened_at, ..head });
    }

    /// The state with this number.
    pub fn get(&self, number: usize) -> State {
        let head = self.heads[number];
        let mut state = State {
            path: head.path,
            files: Default::default(),
            opened: Default::default(),
            participants: [Participant::at_rest(Kind::Process); PARTICIPANTS],
            count: head.count,
            guard: head.guard,
            aside: Default::default(),
            crashes_left: head.crashes_left,
            faults_left: head.faults_left,
            removals_left: head.removals_left,
            suspensions_left: head.suspensions_left,
            chroots_left: head.chroots_left,
            removal_failed: head.removal_failed,
            robbed: head.robbed,
        };
        let count = usize::from(head.count);
        state.participants[..count].copy_from_slice(self.participants_of(&head));
        state.aside[..count].copy_from_slice(self.asides_of(&head));
        for (slot, file) in state.files.iter_mut().zip(self.files_of(&head)) {
            *slot = Some(*file);
        }
        for (slot, opened) in state.opened.iter_mut().zip(self.opened_of(&head)) {
            *slot = Some(*opened);
        }
        state
    }

    fn ends(&self) -> (u32, u32, u32) {
        let end = |length| u32::try_from(length).expect("a level has room for its scenarios");
        (end(self.participants.len()), end(self.files.len()), end(self.opened.len()))
    }

    fn participants_of(&self, head: &Head) -> &[Participant] {
        &self.participants[head.participants_at as usize..][..usize::from(head.count)]
    }

    fn asides_of(&self, head: &Head) -> &[Option<Inode>] {
        &self.asides[head.participants_at as usize..][..usize::from(head.count)]
    }

    fn files_of(&self, head: &Head) -> &[File] {
        &self.files[head.files_at as usize..][..usize::from(head.file_count)]
    }

    fn opened_of(&self, head: &Head) -> &[Opened] {
        &self.opened[head.opened_at as usize..][..usize::from(head.opened_count)]
    }
}
