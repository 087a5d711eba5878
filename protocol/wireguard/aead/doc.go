// Package aead seals and opens runs of WireGuard data messages in place with
// ChaCha20-Poly1305 (RFC 8439), as WireGuard uses it: no additional data, and a nonce of four
// zero bytes followed by the 64-bit counter in little-endian order.
//
// A message is one whole WireGuard data message in one buffer:
//
//	[type 4][receiver index 4][counter 8][plaintext or ciphertext …][tag 16]
//
// Only the part behind the 16-byte header is touched here; the header is written and read by
// the parent package. It is not authenticated: index and counter protect themselves, a wrong
// one selects a wrong key or nonce.
//
// The interface is per run (neighbours in a batch that share a session) and not per message,
// because a cipher that works on several packets at once is worth more than any other step of
// the fast path. The implementation here is the stock one of golang.org/x/crypto, packet after
// packet; its one interface call per packet stays inside this package.
//
// It is not a general AEAD: no additional data, no other nonces, no allocation of output.
//
// Memory: messages are lent for the call and changed in place. Nothing is allocated per run.
//
// Concurrency: a Key may be used by any number of goroutines at once; a Scratch belongs to one.
//
// Wiping: the stock cipher keeps its key in a private field that cannot be overwritten. A Key
// that is no longer referenced is garbage, and its bytes live until the collector reuses them.
package aead
