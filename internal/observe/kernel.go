package observe

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// udpCounters are the kernel's counters of UDP that tell of lost datagrams (snmp_counter.rst in
// the kernel's documentation), by their names in /proc/net/snmp.
var udpCounters = []string{"InErrors", "NoPorts", "RcvbufErrors", "SndbufErrors", "MemErrors", "InCsumErrors"}

// KernelUDP returns the kernel's counters of lost UDP datagrams of both families, by the name that
// name is, for all sockets of this network namespace together. What the kernel does not have is
// left out.
func KernelUDP(name string) (all []Metric) {
	v4, _ := os.ReadFile("/proc/self/net/snmp")
	v6, _ := os.ReadFile("/proc/self/net/snmp6")
	found := parseSNMP(v4)
	for k, v := range parseSNMP6(v6) {
		found[k] = v
	}
	for _, family := range []string{"Udp", "Udp6"} {
		for _, c := range udpCounters {
			if n, ok := found[family+c]; ok {
				all = append(all, Metric{Name: name, Help: "The kernel's counters of UDP datagrams lost, all sockets of the network namespace together.",
					Label: "counter", LabelValue: family + c, Value: n})
			}
		}
	}
	return all
}

// parseSNMP reads pairs of lines "Udp: InDatagrams NoPorts …" and "Udp: 17 3 …".
func parseSNMP(text []byte) map[string]uint64 {
	found := make(map[string]uint64)
	var names []string
	for line := range bytes.Lines(text) {
		words := strings.Fields(string(line))
		if len(words) == 0 || words[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		for i, w := range words[1:min(len(words), len(names))] {
			if n, err := strconv.ParseUint(w, 10, 64); err == nil {
				found["Udp"+names[i+1]] = n
			}
		}
	}
	return found
}

// parseSNMP6 reads lines "Udp6RcvbufErrors    0".
func parseSNMP6(text []byte) map[string]uint64 {
	found := make(map[string]uint64)
	for line := range bytes.Lines(text) {
		name, value, _ := strings.Cut(string(line), " ")
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil && strings.HasPrefix(name, "Udp6") {
			found[name] = n
		}
	}
	return found
}
