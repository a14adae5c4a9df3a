//! The tables of the store's file, and how changes are written into them.

use redb::{
    Database, Durability, Error, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle,
    WriteTransaction,
};

use super::dead_letter_index::DeadLetterIndex;
use super::record::{Change, Contents, DeadRecord, Record};

/// The format that this version reads and writes. It grows with every change of the tables below.
pub(super) const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Number: expiry, header, body.
const LIVE: TableDefinition<'_, u64, (u64, &[u8], &[u8])> = TableDefinition::new("live");
/// Key in the order of arrival: number, expiry, header, body, why, deliveries, when.
const DEAD: TableDefinition<'_, u64, DeadRow> = TableDefinition::new("dead");
type DeadRow = (u64, u64, &'static [u8], &'static [u8], &'static [u8], u64, u64);

const FORMAT_KEY: &str = "format";

/// The format of the file. An empty file gets this format. `None`: another program's file.
pub(super) fn format(database: &Database) -> Result<Option<u64>, Error> {
    let reading = database.begin_read()?;
    let mut tables = reading.list_tables()?;
    if tables.next().is_none() {
        initialise(database)?;
        return Ok(Some(FORMAT));
    }
    if !reading.list_tables()?.any(|table| table.name() == META.name()) {
        return Ok(None);
    }
    let found = reading.open_table(META)?.get(FORMAT_KEY)?.map(|found| found.value());
    Ok(found)
}

fn initialise(database: &Database) -> Result<(), Error> {
    let writing = begin(database)?;
    writing.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
    writing.open_table(LIVE)?;
    writing.open_table(DEAD)?;
    Ok(writing.commit()?)
}

fn begin(database: &Database) -> Result<WriteTransaction, Error> {
    let mut writing = database.begin_write()?;
    // Nothing may be confirmed before it is on the disk.
    writing.set_durability(Durability::Immediate)?;
    Ok(writing)
}

pub(super) fn dead_letter_index(database: &Database) -> Result<DeadLetterIndex, Error> {
    let mut dead_letters = DeadLetterIndex::default();
    for entry in database.begin_read()?.open_table(DEAD)?.iter()? {
        let (key, row) = entry?;
        let (_, _, header, body, why, _, _) = row.value();
        dead_letters.add(key.value(), header.len() + body.len() + why.len());
    }
    Ok(dead_letters)
}

pub(super) fn load(database: &Database) -> Result<Contents, Error> {
    let reading = database.begin_read()?;
    let (live, dead) = (reading.open_table(LIVE)?, reading.open_table(DEAD)?);
    let room = |rows: u64| Vec::with_capacity(usize::try_from(rows).unwrap_or(0));
    let mut contents = Contents { live: room(live.len()?), dead: Vec::new() };
    for entry in live.iter()? {
        let (number, row) = entry?;
        let (expires_ms, header, body) = row.value();
        contents.live.push(record(number.value(), expires_ms, header, body));
    }
    for entry in dead.iter()? {
        let (_, row) = entry?;
        let (number, expires_ms, header, body, why, deliveries, at_ms) = row.value();
        contents.dead.push(DeadRecord {
            record: record(number, expires_ms, header, body),
            why: String::from_utf8_lossy(why).into_owned(),
            deliveries,
            at_ms,
        });
    }
    Ok(contents)
}

fn record(number: u64, expires_ms: u64, header: &[u8], body: &[u8]) -> Record {
    Record { number, header: header.to_vec(), body: body.to_vec(), expires_ms }
}

/// Makes all of `changes` in one transaction. After an error the index no longer matches the file.
pub(super) fn apply(database: &Database, dead_letters: &mut DeadLetterIndex, changes: &[Change]) -> Result<(), Error> {
    let writing = begin(database)?;
    {
        let mut live = writing.open_table(LIVE)?;
        let mut dead = writing.open_table(DEAD)?;
        for change in changes {
            match change {
                Change::Put(Record { number, header, body, expires_ms }) => {
                    live.insert(number, (*expires_ms, &header[..], &body[..]))?;
                }
                Change::Erase(number) => {
                    live.remove(number)?;
                }
                Change::MoveToDeadLetters { number, why, deliveries, at_ms } => {
                    let Some(row) = live.remove(number)? else { continue };
                    let (expires_ms, header, body) = row.value();
                    let key = dead_letters.next_key();
                    let why = why.as_bytes();
                    dead.insert(key, (*number, expires_ms, header, body, why, *deliveries, *at_ms))?;
                    dead_letters.add(key, header.len() + body.len() + why.len());
                }
            }
        }
        while let Some(key) = dead_letters.pop_excess() {
            dead.remove(key)?;
        }
    }
    Ok(writing.commit()?)
}
