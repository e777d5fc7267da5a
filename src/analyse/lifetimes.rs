//! The findings that lifetimes give: of each group that stands out, of all together, and of the series that count them.

use super::bins::Bins;
use super::survivors::{GroupJudgement, Survivors};
use super::{CLEAN_AFTER_SECONDS, PROCESS_DESCRIPTORS, looks, sentence, with};
use crate::model::{Exhaustion, Finding, Series, Timestamp, Verdict, duration_words};

/// What was found in one group.
pub(super) fn of_group(found: &GroupJudgement, exhausts: Option<Exhaustion>, at: Timestamp) -> Finding {
    let text = sentence::of_group(found, exhausts.as_ref(), at);
    with(
        Finding::new(found.kind, sentence::subject_of(&found.group), text),
        found.rate,
        Finding {
            since: found.since,
            confidence: (found.kind != Verdict::Undecided).then_some(found.confidence),
            exhausts,
            evidence: found.leaked.iter().map(|id| id.0.to_string()).collect(),
            steps: found.steps.clone(),
            ..Finding::new(found.kind, "", "")
        },
    )
}

/// What the lifetimes say as a whole where no group of them leaks.
pub(super) fn of_all_lifetimes(survivors: &Survivors, of_groups: &[Finding]) -> Option<Finding> {
    if of_groups.iter().any(|finding| matches!(finding.kind, Verdict::Leak | Verdict::Plateau)) {
        return None;
    }
    let more = CLEAN_AFTER_SECONDS - survivors.watch_seconds;
    let mut finding = if survivors.anybodys > 0 && survivors.open == 0 {
        let text = format!(
            "whose the {} open sockets are is closed to us: they are of one user, and the process' own can't be told apart",
            survivors.anybodys
        );
        Finding::new(Verdict::Undecided, "connections", text)
    } else if more > 0.0 {
        let text = format!("nothing stands out yet; about {} more will tell", duration_words(more));
        Finding::new(Verdict::Undecided, "connections", text)
    } else {
        Finding::new(Verdict::Clean, "connections", sentence::of_clean(survivors))
    };
    finding.steps.push(format!(
        "{} open, {} closed in {}",
        survivors.open,
        survivors.closed,
        duration_words(survivors.watch_seconds)
    ));
    Some(finding)
}

/// The verdict on a series that counts lifetimes: theirs.
pub(super) fn following(series: &Series, bins: &Bins, survivors: &Survivors, of_groups: &[Finding]) -> Finding {
    let (family, member) = series.name.split_once(':').unwrap_or((&series.name, ""));
    let is_counted = |found: &GroupJudgement| {
        let group = &found.group;
        let is_connection = !group.endpoint.is_empty() && matches!(group.kind.name(), "tcp" | "udp" | "unix");
        match family {
            "connections" if member.is_empty() => is_connection,
            "connections" => group.endpoint == member,
            "accepted" => group.endpoint.strip_prefix("accepted ") == Some(member),
            "internet" => group.kind.is_internet(),
            PROCESS_DESCRIPTORS => true,
            "descriptors" => member.is_empty() || group.kind.name() == member,
            _ => false,
        }
    };
    let worst = survivors.groups.iter().zip(of_groups).find(|(found, _)| is_counted(found)).map(|(_, finding)| finding);
    let mut finding = match worst {
        Some(finding) => finding.clone(),
        None if survivors.watch_seconds < CLEAN_AFTER_SECONDS || bins.count < looks::SAMPLES_MIN => {
            let text =
                format!("{} can't be told yet: seen for {}", series.name, duration_words(survivors.watch_seconds));
            Finding::new(Verdict::Undecided, &series.name, text)
        }
        None => {
            let text = format!("no leak in {}: nothing that it counts outlived what was closed", series.name);
            Finding::new(Verdict::Clean, &series.name, text)
        }
    };
    finding.series = Some(series.name.clone());
    finding
}
