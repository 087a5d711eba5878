// Package uapi speaks the wg(8) configuration protocol: the text that `wg`, `wg-quick` and
// other tools exchange with a WireGuard implementation over a unix socket
// (https://www.wireguard.com/xplatform/), turned into typed requests and back.
//
// A client sends one of two requests, each ended by an empty line, and reads an answer that
// ends with an errno line and an empty line:
//
//	get=1            private_key=…                set=1             errno=0
//	                 public_key=…                 listen_port=…
//	                 …                            public_key=…
//	                 errno=0                      …
//
// The package decodes strictly: unknown keys, keys out of place, repeated keys and values out
// of range refuse the whole request, with an error that names the line and says what belongs
// there. A request is applied whole or, when it does not decode, not at all.
//
// It is not a configuration store: what a request means for keys, peers and sockets is decided
// by the Handler.
//
// Memory: everything returned is owned by the caller; nothing points into a reader's buffer.
// Every list is bounded by a constant beside the code that fills it.
//
// Concurrency: the functions on readers and writers belong to one goroutine at a time. Serve
// answers several connections at once and calls the Handler from one of them at a time.
//
// Secrets: private and preshared keys have the type Key, which prints as "(hidden)" in
// every format, and errors never quote their text.
package uapi
