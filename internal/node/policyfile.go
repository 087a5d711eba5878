package node

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/firelane/firelane/control"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// maxPolicyFile bounds the policy file: 32 MiB hold 10,000 clients with twenty resources each.
const maxPolicyFile = 32 << 20

// ReadPolicyFile reads the policies of static peers from a JSON file. start is when the node was
// started, to which expiry is reckoned. The file's form:
//
//	{
//	  "gateway": {"ipv4": "100.64.0.1", "ipv6": "fd00:2021:1111::1"},
//	  "ranges": {"tunnel": ["100.64.0.0/11"], "proxy": ["100.96.0.0/11"]},
//	  "nat64": {"prefix": "64:ff9b::/96", "stateless": false},
//	  "fragments": false,
//	  "clients": [{
//	    "public_key": "<WireGuard public key, base64>",
//	    "ipv4": "100.64.0.7", "ipv6": "fd00:2021:1111::7",
//	    "resources": [
//	      {"id": "lab", "type": "cidr", "name": "Lab net", "address": "10.2.0.0/16",
//	       "filters": [{"protocol": "tcp", "port_range_start": 80, "port_range_end": 443}, {"protocol": "icmp"}],
//	       "expires_at": 1790084000, "nat64": true},
//	      {"id": "web", "type": "dns", "address": "**.example.com", "filters": []},
//	      {"id": "all", "type": "internet"}
//	    ],
//	    "names": [{"domain": "app.example.com", "resources": ["web"],
//	      "proxy_ips": ["100.96.0.1"], "resolved_ips": ["192.0.2.10"]}]
//	  }]
//	}
//
// "clients", and of a client "public_key", an address and "resources" are required; of a resource
// "id" and "type", and unless it is of type internet, "address" and "filters". Filters have the form of
// the portal's: ports run from 0 to 65535 where they are not given, and an empty list permits
// everything. "expires_at" is in Unix seconds; null or absent is never. "ranges" replaces the address plan's. "nat64"
// absent is no NAT64 prefix, and {} the well-known one; a resource with "nat64" false is only
// reached in the family it is addressed in. "stateless" keeps no flows for the prefix; the IPv4 address
// of a client that has both is then the translator's, and IPv4 packets of its own are unreachable, but
// to names. "fragments" lets clients send and get fragments. "name" of a resource is for people.
//
// What is unknown, double or out of bounds is an error that names file, line and place.
func ReadPolicyFile(path string, start time.Time) (*control.PolicySet, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read policy file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read policy file: %w", err)
	}
	if len(data) > maxPolicyFile {
		return nil, fmt.Errorf("read policy file %s: it is longer than %d MiB", path, maxPolicyFile>>20)
	}
	return parsePolicy(path, data, start)
}

// policyReader reads one file.
type policyReader struct {
	start time.Time
	set   control.PolicySet
	owner map[netip.Addr]string          // whose a tunnel address is
	keys  map[wireguard.PublicKey]string // where a key stands
}

func parsePolicy(name string, data []byte, start time.Time) (*control.PolicySet, error) {
	root, err := parseTree(name, data)
	if err != nil {
		return nil, err
	}
	o, err := root.object()
	if err != nil {
		return nil, err
	}
	r := &policyReader{start: start, owner: make(map[netip.Addr]string), keys: make(map[wireguard.PublicKey]string)}
	base := &r.set.Base
	clients := o.take("clients")
	if clients == nil {
		return nil, root.errorf(`"clients" is missing`)
	}
	err = firstError(
		func() error { return r.gateway(o.take("gateway")) },
		func() error { return r.ranges(o.take("ranges")) },
		func() error { return r.nat64(o.take("nat64")) },
		func() error { return readBool(o.take("fragments"), &base.Fragments) },
		func() error { return o.rest("gateway, ranges, nat64, fragments, clients") },
		func() error { return at(root, base.Check()) },
		func() error { return r.clients(clients) },
	)
	if err != nil {
		return nil, err
	}
	return &r.set, nil
}

// firstError runs steps until one fails.
func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// at says where an error comes from.
func at(t *tree, err error) error {
	if err == nil {
		return nil
	}
	return t.errorf("%w", err)
}

func (r *policyReader) gateway(t *tree) error {
	if t == nil {
		return nil
	}
	o, err := t.object()
	if err != nil {
		return err
	}
	return firstError(
		func() error { return r.tunnelAddrs(o, "the gateway's", &r.set.Base.Gateway4, &r.set.Base.Gateway6) },
		func() error { return o.rest("ipv4, ipv6") },
	)
}

// tunnelAddrs reads a pair of tunnel addresses, which nobody else has.
func (r *policyReader) tunnelAddrs(o *object, whose string, v4, v6 *netip.Addr) error {
	for _, f := range []struct {
		key  string
		into *netip.Addr
	}{{"ipv4", v4}, {"ipv6", v6}} {
		t := o.take(f.key)
		if t == nil {
			continue
		}
		a, err := readAddr(t)
		if err != nil {
			return err
		}
		if a.Is4() != (f.key == "ipv4") {
			return t.errorf("%v is no address of that family", a)
		}
		if other, taken := r.owner[a]; taken {
			return t.errorf("%v is already %s; give each its own", a, other)
		}
		r.owner[a] = whose
		*f.into = a
	}
	return nil
}

func (r *policyReader) ranges(t *tree) error {
	if t == nil {
		return nil
	}
	o, err := t.object()
	if err != nil {
		return err
	}
	const most = 8
	return firstError(
		func() error { return readPrefixes(o.take("tunnel"), most, &r.set.Base.TunnelRanges) },
		func() error { return readPrefixes(o.take("proxy"), most, &r.set.Base.ProxyRanges) },
		func() error { return o.rest("tunnel, proxy") },
	)
}

func (r *policyReader) nat64(t *tree) error {
	if t == nil {
		return nil
	}
	o, err := t.object()
	if err != nil {
		return err
	}
	r.set.Base.Prefix64 = packet.WellKnownPrefix64
	if p := o.take("prefix"); p != nil {
		prefix, err := readPrefix(p)
		if err != nil {
			return err
		}
		if _, err := packet.NewPrefix64(prefix); err != nil {
			return p.errorf("%w", err)
		}
		r.set.Base.Prefix64 = prefix
	}
	return firstError(
		func() error { return readBool(o.take("stateless"), &r.set.Base.Stateless) },
		func() error { return o.rest("prefix, stateless") },
	)
}

func (r *policyReader) clients(t *tree) error {
	all, err := t.array(fib.MaxPeers)
	if err != nil {
		return err
	}
	for _, c := range all {
		if err := r.client(c); err != nil {
			return err
		}
	}
	return nil
}

func (r *policyReader) client(t *tree) error {
	o, err := t.object()
	if err != nil {
		return err
	}
	var c control.ClientPolicy
	key, resources, names := o.take("public_key"), o.take("resources"), o.take("names")
	switch {
	case key == nil:
		return t.errorf(`"public_key" is missing`)
	case resources == nil:
		return t.errorf(`"resources" is missing; write [] for none`)
	}
	rr := resourceReader{start: r.start, client: &c, index: make(map[control.ResourceID]int), proxies: make(map[netip.Addr]string)}
	err = firstError(
		func() (err error) { c.PublicKey, err = readKey(key); return err },
		func() error {
			if before, ok := r.keys[c.PublicKey]; ok {
				return key.errorf("it is the key of %s already; remove one", before)
			}
			r.keys[c.PublicKey] = t.path
			return nil
		},
		func() error { return r.tunnelAddrs(o, "that of "+t.path, &c.Addr4, &c.Addr6) },
		func() error {
			if !c.Addr4.IsValid() && !c.Addr6.IsValid() {
				return t.errorf(`it needs an address: "ipv4", "ipv6" or both`)
			}
			return nil
		},
		func() error { return o.rest("public_key, ipv4, ipv6, resources, names") },
		func() error {
			_, err := control.NewGrants(control.GrantsConfig{Base: r.set.Base, Addr4: c.Addr4, Addr6: c.Addr6, Start: r.start}, r.start)
			return at(t, err)
		},
		func() error { return rr.resources(resources) },
		func() error { return rr.names(names, &r.set.Base) },
	)
	r.set.Clients = append(r.set.Clients, c)
	return err
}

func readBool(t *tree, into *bool) (err error) {
	if t != nil {
		*into, err = t.boolean()
	}
	return err
}

func readKey(t *tree) (k wireguard.PublicKey, err error) {
	s, err := t.text()
	if err != nil {
		return k, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, t.errorf("want a WireGuard public key: %d bytes in base64, as `wg pubkey` prints it", len(k))
	}
	copy(k[:], b)
	return k, nil
}

func readAddr(t *tree) (netip.Addr, error) {
	s, err := t.text()
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, t.errorf("%q is no IPv4 or IPv6 address", clip(s))
	}
	return a, nil
}

func readAddrs(t *tree, most int) (addrs []netip.Addr, err error) {
	all, err := t.array(most)
	if err != nil {
		return nil, err
	}
	seen := make(map[netip.Addr]bool)
	for _, e := range all {
		a, err := readAddr(e)
		if err != nil {
			return nil, err
		}
		if seen[a] {
			return nil, e.errorf("%v appears twice; remove one", a)
		}
		seen[a] = true
		addrs = append(addrs, a)
	}
	return addrs, nil
}

func readPrefix(t *tree) (netip.Prefix, error) {
	s, err := t.text()
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		hint := ""
		if !strings.Contains(s, "/") {
			hint = "; a single address ends in /32 or /128"
		}
		return netip.Prefix{}, t.errorf("%q is no network%s", clip(s), hint)
	}
	if p != p.Masked() {
		return netip.Prefix{}, t.errorf("%v has bits set behind its length; write %v", p, p.Masked())
	}
	return p, nil
}

func readPrefixes(t *tree, most int, into *[]netip.Prefix) error {
	if t == nil {
		return nil
	}
	all, err := t.array(most)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return t.errorf("it is empty; leave it out for the default")
	}
	for _, e := range all {
		p, err := readPrefix(e)
		if err != nil {
			return err
		}
		*into = append(*into, p)
	}
	return nil
}
