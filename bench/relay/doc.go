// Command relay measures this module's relay beside coturn and pion/turn's server, alternating in
// one run: processor time per GB and packets per second with trains and with single datagrams, at
// 1, 10 and 100 allocations, and the memory of 10,000 idle ones. Beside them stands bench/relay/bare,
// which is no relay: what the kernel's sockets take by themselves.
//
//	go run ./bench/relay [-rows EXPRESSION] [-reps N] [-record]
//
// It needs root for network namespaces, and Debian's coturn. The report is in out/bench/relay.md;
// with -record also in bench/relay/RESULTS.md.
package main
