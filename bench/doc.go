// Command bench measures gateways under whole-system load: firelane, wireguard-go and
// Tailscale's fork of it take turns between a client and a server in network namespaces.
//
//	go run ./bench                          everything, about half an hour
//	go run ./bench -rows tcp -reps 1        a quick look
//	go run ./bench -record                  and make it the recorded run
//	go run ./bench -demo                    what `make run` shows
//
// It builds the gateways itself, at the versions pinned in go.mod, and needs root, iperf3,
// wireguard-tools and ping. A row that fails is in the report with its reason, and makes the
// exit code 1.
//
// The packages below it each have one task: topology the network, load the traffic, sample
// the counters, report the figures. This one holds the list of rows and the order of events.
// It also is the traffic generator, when started with the arguments of load.Main.
package main
