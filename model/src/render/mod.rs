//! Output for people and other programs: reports, tables, exports, pictures.

pub mod diagram;
pub mod export;
pub mod pictures;
pub mod report;
pub mod sequence;
pub mod svg;
pub mod table;
