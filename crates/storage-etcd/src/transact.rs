//! Transactions, in etcd's words and back.

use std::collections::BTreeSet;

use storage::mvcc::check_transaction;
use storage::{
    Compare, CompareTarget, KeyValue, LeaseId, Operation, OperationResponse, PutRequest, RangeRequest,
    RangeResponse, Revision, StoreError, Transaction, TransactionResponse,
};

use crate::connection::{Fault, Repeat};
use crate::layout::{Layout, Numbering};
use crate::store::{Refused, Shared, malformed};
use crate::wire::etcdserverpb::{
    self as etcd, RequestOp, ResponseOp, TxnRequest, compare, request_op, response_op,
};
use crate::wire::mvccpb;

impl Shared {
    pub(crate) async fn transact(&self, transaction: Transaction) -> Result<TransactionResponse, StoreError> {
        check_transaction(&transaction)?;
        let words = Words { layout: &self.layout, numbering: self.life.numbering };
        words.check_floor(&transaction)?;
        let request = TxnRequest {
            compare: transaction.compare.iter().map(|compare| words.compare(compare)).collect(),
            success: transaction.success.iter().map(|operation| words.operation(operation)).collect(),
            failure: transaction.failure.iter().map(|operation| words.operation(operation)).collect(),
        };
        let writes = [&transaction.success, &transaction.failure]
            .into_iter()
            .flatten()
            .any(|operation| !matches!(operation, Operation::Range(_)));
        let repeat = if writes { Repeat::UnlessSent } else { Repeat::Freely };
        let done = self.fenced(repeat, vec![request_op::Request::RequestTxn(request)]).await;
        let (revision, responses) = match done {
            Ok(done) => done,
            Err(refused) => return Err(self.explain(refused, &transaction).await),
        };
        let Some(response_op::Response::ResponseTxn(inner)) =
            responses.into_iter().next().and_then(|response| response.response)
        else {
            return Err(malformed());
        };
        let branch = if inner.succeeded { transaction.success } else { transaction.failure };
        if branch.len() != inner.responses.len() {
            return Err(malformed());
        }
        let revision = self.life.numbering.own(revision);
        let mut answers = Answers { words, revision, wrote: false, responses: Vec::new() };
        // Whether the transaction changed anything decides what a read before its first write calls the newest revision.
        let changed = inner.responses.iter().any(changes);
        for (operation, response) in branch.iter().zip(inner.responses) {
            answers.add(operation, response, changed)?;
        }
        Ok(TransactionResponse { succeeded: inner.succeeded, revision, responses: answers.responses })
    }

    /// What a refusal means, for which etcd gives no numbers.
    async fn explain(&self, refused: Refused, transaction: &Transaction) -> StoreError {
        let operations = || transaction.success.iter().chain(&transaction.failure);
        let revision = operations().find_map(|operation| match operation {
            Operation::Range(range) => range.revision,
            _ => None,
        });
        match refused {
            Refused::Fault(Fault::Compacted) => self.compacted_error(revision.unwrap_or_default()).await,
            Refused::Fault(Fault::Future) => self.future_error(revision.unwrap_or_default()).await,
            Refused::Fault(Fault::LeaseNotFound) => {
                let leases: BTreeSet<LeaseId> = operations()
                    .filter_map(|operation| match operation {
                        Operation::Put(PutRequest { lease, .. }) => *lease,
                        _ => None,
                    })
                    .collect();
                self.missing_lease(leases).await
            }
            refused => refused.store_error(),
        }
    }
}

fn changes(response: &ResponseOp) -> bool {
    match &response.response {
        Some(response_op::Response::ResponsePut(_)) => true,
        Some(response_op::Response::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
        _ => false,
    }
}

#[derive(Clone, Copy)]
struct Words<'a> {
    layout: &'a Layout,
    numbering: Numbering,
}

impl Words<'_> {
    /// A read of another life's revision is one of a compacted revision.
    fn check_floor(&self, transaction: &Transaction) -> Result<(), StoreError> {
        let floor = self.numbering.floor;
        for operation in transaction.success.iter().chain(&transaction.failure) {
            if let Operation::Range(RangeRequest { revision: Some(requested), .. }) = operation
                && *requested < floor
            {
                return Err(StoreError::Compacted { requested: *requested, oldest: floor });
            }
        }
        Ok(())
    }

    fn compare(&self, compare: &Compare) -> etcd::Compare {
        let (target, union) = match &compare.target {
            CompareTarget::ModRevision(revision) => (
                compare::CompareTarget::Mod,
                compare::TargetUnion::ModRevision(self.numbering.etcd(*revision)),
            ),
            CompareTarget::CreateRevision(revision) => (
                compare::CompareTarget::Create,
                compare::TargetUnion::CreateRevision(self.numbering.etcd(*revision)),
            ),
            CompareTarget::Version(version) => {
                let version = i64::try_from(*version).unwrap_or(-1);
                (compare::CompareTarget::Version, compare::TargetUnion::Version(version))
            }
            CompareTarget::Value(value) => {
                (compare::CompareTarget::Value, compare::TargetUnion::Value(value.to_vec()))
            }
        };
        etcd::Compare {
            result: compare::CompareResult::Equal.into(),
            target: target.into(),
            key: self.layout.key(&compare.key),
            target_union: Some(union),
        }
    }

    fn operation(&self, operation: &Operation) -> RequestOp {
        let request = match operation {
            Operation::Put(put) => request_op::Request::RequestPut(etcd::PutRequest {
                key: self.layout.key(&put.key),
                value: put.value.to_vec(),
                lease: put.lease.map_or(0, |lease| lease.0),
                prev_kv: true,
            }),
            Operation::Delete(delete) => match self.layout.range(&delete.range) {
                Some((key, range_end)) => request_op::Request::RequestDeleteRange(etcd::DeleteRangeRequest {
                    key,
                    range_end,
                    prev_kv: true,
                }),
                None => self.nothing(0),
            },
            Operation::Range(range) => self.range(range),
        };
        RequestOp { request: Some(request) }
    }

    fn range(&self, request: &RangeRequest) -> request_op::Request {
        let revision = request.revision.map_or(0, |revision| self.numbering.etcd(revision));
        let Some((key, range_end)) = self.layout.range(&request.range) else {
            return self.nothing(revision);
        };
        let limit = request.limit.map_or(0, |limit| i64::try_from(limit).unwrap_or(0));
        // A limit of 0 is none for etcd.
        let count_only = request.count_only || request.limit == Some(0);
        request_op::Request::RequestRange(etcd::RangeRequest { key, range_end, limit, revision, count_only })
    }

    /// Reads nothing: what is done for a range without keys.
    fn nothing(&self, revision: i64) -> request_op::Request {
        let key = self.layout.life();
        let request = etcd::RangeRequest { key, revision, count_only: true, ..etcd::RangeRequest::default() };
        request_op::Request::RequestRange(request)
    }

    fn key_value(&self, kv: mvccpb::KeyValue) -> Option<KeyValue> {
        let key = self.layout.own(&kv.key)?;
        Some(self.numbering.key_value(key, kv))
    }
}

struct Answers<'a> {
    words: Words<'a>,
    /// The store's revision after the transaction.
    revision: Revision,
    wrote: bool,
    responses: Vec<OperationResponse>,
}

impl Answers<'_> {
    fn add(&mut self, asked: &Operation, response: ResponseOp, changed: bool) -> Result<(), StoreError> {
        self.wrote |= changes(&response);
        let answer = match (asked, response.response) {
            (Operation::Put(_), Some(response_op::Response::ResponsePut(put))) => {
                let previous = put.prev_kv.and_then(|kv| self.words.key_value(kv));
                OperationResponse::Put { previous }
            }
            (Operation::Delete(_), Some(response_op::Response::ResponseDeleteRange(deleted))) => {
                let previous =
                    deleted.prev_kvs.into_iter().filter_map(|kv| self.words.key_value(kv)).collect();
                OperationResponse::Delete { previous }
            }
            (Operation::Delete(_), Some(response_op::Response::ResponseRange(_))) => {
                OperationResponse::Delete { previous: Vec::new() }
            }
            (Operation::Range(request), Some(response_op::Response::ResponseRange(read))) => {
                OperationResponse::Range(self.read(request, read, changed))
            }
            _ => return Err(malformed()),
        };
        self.responses.push(answer);
        Ok(())
    }

    fn read(&self, request: &RangeRequest, read: etcd::RangeResponse, changed: bool) -> RangeResponse {
        let before = Revision(self.revision.0.saturating_sub(1));
        let revision = if changed && !self.wrote { before } else { self.revision };
        let empty = self.words.layout.range(&request.range).is_none();
        let count = if empty { 0 } else { usize::try_from(read.count).unwrap_or(0) };
        let kvs = read.kvs.into_iter().filter_map(|kv| self.words.key_value(kv)).collect();
        RangeResponse { revision, kvs, count }
    }
}
