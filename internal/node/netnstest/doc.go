// Package netnstest holds tests of `firelane wg` as a program on a real kernel: between network
// namespaces, beside wireguard-go, under loss, restarts and hostile datagrams. Nothing imports it.
//
// The test binary runs itself again as the first process of a PID and a mount namespace of its
// own, so that whatever a test started ends with it, and configuration sockets cannot meet those
// of others. It needs root.
package netnstest
