// Package node is a running node: it owns the one control goroutine, the workers, the clock and
// the entropy, and carries out what the machines of package control decide.
//
// RunStatic runs a WireGuard interface whose peers come from the wg(8) configuration socket.
//
// # Goroutines
//
//	driver      the only caller of the control machine and the only writer of the table; waits
//	            for the bell, requests, job results, link events and its timer
//	worker × n  one locked thread each: fastpath.Worker.Run
//	job × m     handshake arithmetic
//	others      the configuration socket's server, the link watcher
//
// Everything ends with the context given to RunStatic, which waits for all of them.
package node
