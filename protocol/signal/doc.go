// Package signal is the portal channel without its network: Phoenix frames, every message between
// portal and gateway, client and relay as a Go type, the parameters of the websocket upgrade and
// its refusals, the values a portal derives, and Session, the machine that keeps a device's
// connection alive. It has no sockets, clock, goroutines or entropy; internal/channel drives it.
//
// # Reading and writing
//
// Writing is strict: field names, their order, null against absent and numeric refs are as the
// deployed peers expect, because theirs drop a whole message silently for one absent field. A
// message that lacks a mandatory value is not written; the error names the field.
//
// Reading is liberal: unknown fields are ignored, optional ones get their defaults, older names
// of events and fields are understood, and an unknown event is a message of type Unknown. A
// missing mandatory field is an error that names it. Unusable candidates, resources and relays
// are left out of their list without harming the rest, but an unusable filter condemns its
// resource: an empty filter list means "everything", so a filter must never get lost.
//
// Object keys are compared as encoding/json does, without regard to case; the last of two equal
// keys counts.
//
// # Bounds
//
// A frame is bounded in bytes, nesting and number of values (Limits) before anything is decoded,
// so that the memory a frame may cost is proportional to its bound and not to what it claims.
//
// # Secrets
//
// Tokens, keys and passwords are of type Secret and PresharedKey, which print as "[redacted]"
// under every verb. They marshal in the clear, for that is how they travel; therefore every
// message that holds one logs as its event name only.
//
// # Ownership and concurrency
//
// Decoding copies: no message refers to the bytes it came from. Frames handed out by a Session
// are owned by the caller. Nothing here may be used concurrently without a lock, but messages
// and the tables behind Decode and Encode are never written after they are made.
//
// # What is taken on trust
//
// These points of the protocol could not be verified, and the package is liberal about each:
// the distribution of the back-off's jitter (here: uniform up to one current delay); a missing
// expires_at (here: never, like null); addresses of resolved device-pool names with a prefix
// length (accepted, never sent); the payload of phx_error (ignored); addresses of portal objects
// with /32 or /128 (accepted, never sent); hosts given as IPv6 literals (dialled, with brackets
// in the Host header). Differences from the deployed devices, on purpose: an explicit port 80 is
// dialled rather than replaced by 443; a relay entry of an unknown type is left out rather than
// condemning its message; a join is accepted whatever its response holds; a Retry-After is
// followed for a day at most. The exchange of devices before 1.4 (prepare_connection and its
// kin) is Unknown. Keys named gateway_group are read, and written where LegacyNames asks for them:
// to clients that do not know the present ones.
package signal
