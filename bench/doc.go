// Command bench measures gateways under whole-system load: firelane, wireguard-go and
// Tailscale's fork of it take turns between a client and a server in network namespaces.
//
//	go run ./bench                             everything, about three quarters of an hour
//	go run ./bench -rows ^tcp -reps 1          a quick look
//	go run ./bench -rows '^(plain|cidr|nat)'   policy and translation only
//	go run ./bench -record                     and make it the recorded run
//	go run ./bench -demo                       what `make run` shows
//
// It builds the gateways itself, at the versions pinned in go.mod, and needs root, iperf3,
// wireguard-tools, ping, nftables and tayga. A row that fails is in the report with its reason,
// and makes the exit code 1.
//
// Three things are measured. Most rows compare the gateways as they forward packets. The rows
// called client-… have no gateway: the kernel of its host counts what the client puts on the wire,
// which on a machine with few cores is little, and bounds what any gateway can show.
//
// The rows called after a way (plain4, plain6, cidr, nat, nat64, nat46) take turns, one load at a time,
// at what policy and translation cost beside plain forwarding, and beside tayga, Debian's NAT64. They
// have the least MTU. tayga translates and has no tunnel, so it stands behind one: the kernel routes
// packets from the tunnel's interface to tayga's, and what tayga writes to the server, and
// back. The tunnel is `firelane wg` once, so that the translator is the only difference, and
// wireguard-go once, which is what one would put there. The promise compares CPU per GB of whole
// gateways: tunnel and tayga together with firelane's one process that does both. The report
// also has tayga's own CPU, and what each way costs beyond firelane's plain forwarding, which
// for firelane's NAT64 is the translation alone. tayga's interface has no offloads: the kernel
// cuts superpackets up before it, and the tunnel gets what comes back one by one. That is how
// tayga works, and counts against it.
//
// The packages below it each have one task: topology the network, load the traffic, sample
// the counters, report the figures. This one holds the list of rows and the order of events.
// It also is the traffic generator, when started with the arguments of load.Main.
package main
