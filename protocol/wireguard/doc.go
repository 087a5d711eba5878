// Package wireguard is WireGuard's handshake, its timers and its transport keys, as state
// machines: Noise_IKpsk2 and cookies per the WireGuard paper (Donenfeld, NDSS 2017, sections 5
// and 6), keypairs and a replay window for the data plane, and helpers to tell messages apart.
//
// It is not a tunnel: it has no sockets, routes, allowed IPs or packet queues, and it reads no
// clock and no entropy but what it is given.
//
// # Who calls it
//
// A Device holds all peers of one static key and belongs to one goroutine, the driver:
//
//  1. Datagrams of kind initiation, response and cookie go to HandleMessage. Bytes are lent.
//  2. Drain after every call; carry the Output out in the order of its fields.
//  3. Run each Job anywhere and give each result to HandleJob, exactly once. Nothing else is
//     expensive: no method of Device or Peer does a curve operation (SetPrivateKey and NewDevice
//     excepted).
//  4. When NextTimeout has come, Observe each peer of Due with fresh stamps of the data plane,
//     then call HandleTimeout.
//  5. After Output.Quiet, arm a one-shot bell in the data plane (a peer starts with it armed) and
//     then Observe once more: the next packet the peer sends or receives rings it, and the
//     driver then calls Observe. Until then the device does not look at the peer, so that idle
//     peers cost nothing. The first message opened under a session that is not confirmed rings
//     whether the bell is armed or not.
//  6. On data for a peer without a usable session, and when the data plane says that a key needs
//     replacing, call Initiate.
//
// Timers are computed from stamps of the last activity, not kept per packet: an armed deadline
// looks at the stamps when it fires and acts or moves. While a peer is active its stamps are
// looked at every half keepalive time; a timer of the paper can be late by at most that.
//
// Data-plane workers use a Keypair concurrently (it has atomics) and a Window under the lock of
// their session.
//
// # Session indices
//
// An index is connection id (24 bits, given by the caller, unique) and session number (8 bits,
// raised for each initiation or response we send, first 1, wrapping; a number whose slot holds
// the current session, or that is still in use, is passed over). A peer has up to
// eight sessions; a new one replaces the one whose number has the same lower three bits.
//
// # Memory and secrets
//
// Messages are lent and copied where a job needs them; Output is owned by who drained it.
// Handshake states, ephemeral keys as bytes, shared secrets and key material are overwritten
// after use. Not wipeable: keys inside crypto/ecdh and x/crypto ciphers, which copy them into
// private memory; they are dropped and left to the collector.
package wireguard
