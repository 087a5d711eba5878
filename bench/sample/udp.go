package sample

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ReadUDP returns the UDP error counters of the network namespace that pid is in.
func ReadUDP(pid int) (UDPErrors, error) {
	v4, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", pid))
	if err != nil {
		return UDPErrors{}, fmt.Errorf("read UDP counters: %w", err)
	}
	e, err := parseSNMP(string(v4))
	if err != nil {
		return UDPErrors{}, err
	}
	// A kernel without IPv6 has no such file, and no such errors.
	if v6, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp6", pid)); err == nil {
		e.add(parseSNMP6(string(v6)))
	}
	return e, nil
}

// parseSNMP reads the two "Udp:" lines of /proc/net/snmp: names, then numbers.
func parseSNMP(s string) (UDPErrors, error) {
	var names []string
	for line := range strings.Lines(s) {
		rest, ok := strings.CutPrefix(line, "Udp:")
		if !ok {
			continue
		}
		if names == nil {
			names = strings.Fields(rest)
			continue
		}
		var e UDPErrors
		for i, v := range strings.Fields(rest) {
			if i < len(names) {
				e.set(names[i], v)
			}
		}
		return e, nil
	}
	return UDPErrors{}, fmt.Errorf("read UDP counters: no Udp lines in snmp")
}

// parseSNMP6 reads the lines "Udp6InErrors 0" of /proc/net/snmp6.
func parseSNMP6(s string) UDPErrors {
	var e UDPErrors
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) == 2 {
			if name, ok := strings.CutPrefix(f[0], "Udp6"); ok {
				e.set(name, f[1])
			}
		}
	}
	return e
}

func (e *UDPErrors) set(name, value string) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return // a signed field that is none of ours
	}
	switch name {
	case "InErrors":
		e.In = n
	case "RcvbufErrors":
		e.Rcvbuf = n
	case "SndbufErrors":
		e.Sndbuf = n
	}
}

func (e *UDPErrors) add(o UDPErrors) {
	e.In += o.In
	e.Rcvbuf += o.Rcvbuf
	e.Sndbuf += o.Sndbuf
}
