// Package topology builds the small network every benchmark row runs in, out of three network
// namespaces of its own, and takes it away again:
//
//	client ───── veth, MTU 1500 ───── gateway ───── veth, MTU 1500 ───── server
//	10.91.0.1  fd91::1     10.91.0.2  fd91::2 │ 10.92.0.1  fd92::1    10.92.0.2  fd92::2
//	   └── WireGuard tunnel, inner MTU m ─┘
//	10.93.0.2  fd93::2     10.93.0.1  fd93::1
//
// The client reaches the server's network through the tunnel only. The gateway and the client
// are any commands with the habits of `wireguard-go -f IFNAME`; endpoints are configured on both
// ends, because not every gateway learns its peer's from packets. A second peer of the gateway is
// the Endpoint, 10.93.0.3 and fd93::3: room for a program on the client that speaks WireGuard itself.
//
// A gateway that reads policies finds one in PolicyFile: it grants the server's network, and has
// proxy addresses, 10.94.0.0/24 and fd94::/64, that stand for the server. StartTranslator puts a
// NAT64 in a process of its own behind any gateway's tunnel, with the server at fd96::10.92.0.2.
//
// Nothing outlives its owner: Close stops every process that was started inside and deletes the
// namespaces with all they hold; processes are told by the kernel when the owner dies; and New
// sweeps what an owner that was killed has left. Names carry the owner's pid for that.
//
// A Network may be used by one goroutine at a time; a Process by any.
package topology
