// Package store keeps what the portal must not forget: devices, tokens, authorizations, people,
// flow logs and the portal's own secrets. It is the only place that knows SQL; its callers see
// typed values, and another database can take its place behind the same methods.
//
// It is not a place for decisions: who may connect where is the portal's business. Nor is it the
// policy: accounts, sites, resources, groups and policies live in the policy file, and the store
// knows them by their ids only.
//
// # Durability
//
// A method that writes returns nil only when the write is on the disk. The database is SQLite in
// WAL mode. The log is synced before a commit is reported, so a confirmed write survives the death of
// the process (kill -9) and, where the disk keeps its promise of fdatasync, the loss of power. A crash
// in the middle of a commit leaves the state before it, because frames without a valid commit frame are
// ignored when the log is read back.
//
// The sync is ours: SQLite has synchronous=NORMAL, which syncs at checkpoints only, and the writer
// calls fdatasync on the log after each commit. SQLite's driver would call fsync, which writes the
// file's times to the file system's journal, and waits for that too. The price is that a read may see
// what is about to be on the disk, a sync ahead of who wrote it. After a sync that fails, what the log
// has on the disk is not known any more, and the store refuses all further writes.
//
// A sync of a file that grows waits for the journal likewise. So a process that writes for long has the
// log's blocks written at Open (Options.ReserveLog), and the log starts anew before they are used up.
//
// # Group commit
//
// A sync takes milliseconds and cannot be shared by transactions that follow each other. One
// goroutine therefore owns the only writing connection, takes whatever writes have queued up
// while the last sync was under way, carries them out in one transaction, and reports to all of
// them after its commit. Each write is in a savepoint of its own: one that fails is undone alone.
// The log is copied into the database by another goroutine, off the way of commits, but for the few
// pages that commits add meanwhile: a log can start anew only when all of it has been copied.
//
// # Contexts
//
// A context that ends while a write waits in the queue withdraws the write. Once the writer has
// taken it, the caller waits for the outcome, which takes one transaction at most. So an error
// always means that nothing was written, and nil that it was; the sole exception is ErrUncertain.
// Reads end with their context.
//
// # Accounts
//
// Every method takes an account and touches nothing outside it. The three exceptions are the doors
// through which an account is learnt: Authenticate, by a secret token; TakeSignIn, by a secret
// state; and Accounts, for maintenance.
//
// # Concurrency and memory
//
// All methods may be called from any goroutine. Arguments are not kept after a call, results are
// owned by the caller. Everything is bounded by Limits, which hold per account, and by the
// constants beside the types.
package store
