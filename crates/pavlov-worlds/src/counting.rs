//! Counting, giving, finding and losing.

use pavlov_schema::rng::Rng;

use crate::config::Config;
use crate::fact::Fact;
use crate::pick::{between, chance, one, several};
use crate::query::{Query, Value};
use crate::words::{ITEMS, LARGEST};
use crate::world::Draft;

/// How many of one item somebody has now.
struct Account {
    who: &'static str,
    item: &'static str,
    count: u8,
    touched: bool,
}

/// A story of `n` statements: what people have at first, then what happens.
pub(crate) fn draft(rng: &mut Rng, config: &Config, n: usize) -> Draft {
    let settings = config.settings();
    let names = several(rng, config.names(), 3);
    let items = several(rng, &ITEMS, 2);
    let mut owners: Vec<_> = names.iter().flat_map(|&who| [(who, items[0]), (who, items[1])]).collect();
    // The first item for everybody comes more often, so that there is somebody to give to.
    if chance(rng, 0.6) {
        owners.retain(|&(_, item)| item == items[0]);
    }
    rng.shuffle(&mut owners);
    owners.truncate(between(rng, 1, (n - 1).min(4)));

    let mut facts = Vec::with_capacity(n);
    let mut accounts = Vec::new();
    for (who, item) in owners {
        let count = between(rng, 1, settings.largest_start.into()) as u8;
        facts.push(Fact::Has { who, count, item });
        accounts.push(Account { who, item, count, touched: false });
    }
    while facts.len() < n {
        facts.push(happen(rng, &mut accounts, settings.largest_change));
    }

    let touched: Vec<usize> = (0..accounts.len()).filter(|&i| accounts[i].touched).collect();
    let asked = &accounts[one(rng, &touched)];
    let partner = accounts.iter().find(|other| {
        other.item == asked.item && other.who != asked.who && other.count + asked.count <= LARGEST
    });
    let (query, count) = match partner {
        Some(partner) if chance(rng, 0.2) => {
            (Query::Total { a: asked.who, b: partner.who, item: asked.item }, asked.count + partner.count)
        }
        _ => (Query::Count { who: asked.who, item: asked.item }, asked.count),
    };
    Draft { facts, query, truth: Some(Value::Number(count)) }
}

/// One event that changes an account, and perhaps a second one; counts stay within 0 to [`LARGEST`].
fn happen(rng: &mut Rng, accounts: &mut [Account], largest_change: u8) -> Fact {
    let i = rng.below(accounts.len());
    let Account { who, item, count, .. } = accounts[i];
    accounts[i].touched = true;
    let amount = |rng: &mut Rng, limit: u8| between(rng, 1, limit.min(largest_change).into()) as u8;
    let receivers: Vec<usize> = (0..accounts.len())
        .filter(|&j| accounts[j].item == item && accounts[j].who != who && accounts[j].count < LARGEST)
        .collect();
    if count > 0 && !receivers.is_empty() && chance(rng, 0.6) {
        let receiver = one(rng, &receivers);
        let given = amount(rng, count.min(LARGEST - accounts[receiver].count));
        accounts[i].count -= given;
        accounts[receiver].count += given;
        accounts[receiver].touched = true;
        Fact::Gave { who, to: accounts[receiver].who, count: given, item }
    } else if count == 0 || count < LARGEST && chance(rng, 0.5) {
        let found = amount(rng, LARGEST - count);
        accounts[i].count += found;
        Fact::Found { who, count: found, item }
    } else {
        let lost = amount(rng, count);
        accounts[i].count -= lost;
        Fact::Lost { who, count: lost, item }
    }
}
