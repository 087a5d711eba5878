// Package portal is the self-hosted control plane: it lets devices in, tells them what there is, and
// decides who may talk to whom.
//
// Portal is its machine, free of I/O, goroutines, clock and entropy. Inputs are channels that join
// and end, messages, results of the store, edits of the policy file, and time; outputs are messages
// and ends of channels, and writes to the store. What a policy means is in portal/config, what must
// not be forgotten in portal/store, what goes over the wire in protocol/signal.
//
// The package is not a place for SQL, HTTP or sign-ins. Ingest is the other machine: it decides
// which flow records are accepted.
//
// # Order
//
// An authorization is written first; only when the store has confirmed it does the gateway hear of
// it, and only when the gateway has answered does the client. In a device pool the target is told
// first, and the client that has asked when that message has gone out. Candidates pass between two
// devices after each of them has been told of the other, and wait until then. A revocation is told at
// once and written meanwhile: what has been taken away must not wait for a disk.
//
// Of an edit of many things a device is told by init, which stands for all of them, so that no queue
// of a device that reads fills up because of one edit.
//
// # Obligations of the driver
//
//  1. Call from one goroutine, or under one lock, with a now that never goes back (wall-clock time:
//     expiries are seconds of Unix time). After any Handle… call Drain, and give Deliveries to their
//     channels in order before the goroutine or lock is given up. internal/channel's Send never
//     blocks, so a lock will do.
//  2. Authenticate the token, store the device (store.ConnectDevice) and build Connect before the
//     upgrade; tell HandleConnect from channel.Handler.Joined, every time, also when a channel joins
//     again. Use a ConnID for one channel only. Tell HandleDisconnect from Handler.Closed, if there
//     was a HandleConnect before.
//  3. Answer a message with what HandleMessage returns, if it says that there is an answer. Give it
//     the signal.Pushed of a channel like a message: without them nobody is introduced to anybody.
//  4. A Delivery is a message, an end of the channel, or a message and then an end: Leave is
//     Link.Leave, Restart is Link.End with 1012, Away with 1001, Cut is Link.Cut. Errors of Send
//     mean that the channel is about to end, or that others have it sent too much, and are not told,
//     but for an error that is neither
//     signal.ErrNotJoined, channel.ErrEnded nor channel.ErrSlow: then the channel is to be cut,
//     because the device's view is no longer that of the machine.
//  5. Carry out every Write off the goroutine that drives the machine, and give its result to
//     HandleStored, exactly once, whatever has happened meanwhile. Writes are independent of each
//     other: any order, any number at a time.
//  6. Call HandleTimeout when NextTimeout says so. It is never later than pending output.
//  7. Load State for New from the store page by page: all devices, all authorizations that have not
//     expired, and the actor of every person that is not disabled and of every service account.
//     File is the policy file that was in force when the last process ended, which the driver
//     keeps; if the file has been edited since, HandleConfig follows at once. So an edit during an
//     outage revokes what it must.
//  8. Keep a file as the one in force only when all Writes that its HandleConfig caused have been
//     carried out without error; Settled says when.
//  9. When something changes in the store, change it there first and then tell: HandleTokenRevoked,
//     HandleDeviceChanged, HandleDeviceDeleted, HandleActor. Do one such change at a time, and tell
//     it whatever becomes of who has asked for it. Poll store.ForeignChanges for what subcommands
//     do, and look up what they have changed: every token of a channel and of EachToken, for an
//     authorization outlives its client's channel. Disabling a person is revoking the person's
//     tokens. A device or person of whom HandleConnect was the first to speak (Knows) is to be
//     looked up again after it, for the row in Connect may be old.
//  10. Secret and Seed of Settings come from the store and from the system's entropy: Secret must
//     stay the same for as long as tokens made from it are to be accepted, Seed must not repeat.
//  11. Refuse upgrades before they reach the machine: rate limits, bad tokens, bad parameters; and joins
//     by Connect.Refusal. A second channel of a gateway or relay replaces the first; there is no 409.
//  12. Serve Ingest behind POST /ingestion/flow_logs with a limit of the body's size (MaxIngestBody)
//     and a rate limit of one request per second and source address, and store what it accepts
//     before the answer goes out.
//  13. Purge what only grows: store.DeleteTokens. Expired authorizations are purged by Writes.
//
// # Memory
//
// Everything is bounded: connections, requests, authorizations and candidates in hand by the named
// constants beside their use, devices and actors by the limits of the store. At a bound the newest
// wish is refused and counted in Stats. What one device may have passed on to another is bounded in
// number and rate.
package portal
