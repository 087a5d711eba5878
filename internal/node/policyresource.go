package node

import (
	"math"
	"net/netip"
	"time"

	"github.com/firelane/firelane/control"
	"github.com/firelane/firelane/dns"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// Bounds of one entry of "names". Clients announce four proxy addresses of either family for a name.
const (
	maxNameProxies   = 8
	maxNameResolved  = 256
	maxNameResources = 16
)

// resourceReader reads the resources and names of one client.
type resourceReader struct {
	start   time.Time
	client  *control.ClientPolicy
	index   map[control.ResourceID]int
	proxies map[netip.Addr]string // the name of a proxy address
}

func (r *resourceReader) resources(t *tree) error {
	all, err := t.array(control.MaxResources)
	if err != nil {
		return err
	}
	for _, e := range all {
		resource, err := r.resource(e)
		if err != nil {
			return err
		}
		r.index[resource.ID] = len(r.client.Resources)
		r.client.Resources = append(r.client.Resources, resource)
	}
	return nil
}

func (r *resourceReader) resource(t *tree) (res control.Resource, err error) {
	o, err := t.object()
	if err != nil {
		return res, err
	}
	id, kind := o.take("id"), o.take("type")
	if id == nil || kind == nil {
		return res, t.errorf(`"id" and "type" are required`)
	}
	text, err := id.text()
	if err != nil {
		return res, err
	}
	res.ID = control.ResourceID(text)
	if _, ok := r.index[res.ID]; ok {
		return res, id.errorf("the client has a resource %q already; ids are unique", clip(text))
	}
	if name := o.take("name"); name != nil {
		if _, err := name.text(); err != nil {
			return res, err
		}
	}
	translate := true
	err = firstError(
		func() error { return r.target(t, o, kind, &res) },
		func() error { return r.expiry(o.take("expires_at"), &res.Expires) },
		func() error { return readBool(o.take("nat64"), &translate) },
		func() error {
			if res.Kind == control.KindInternet {
				return o.rest("id, type, name, expires_at, nat64 (an internet resource has no address and no filters)")
			}
			return o.rest("id, type, name, address, filters, expires_at, nat64")
		},
	)
	res.NoTranslate = !translate
	return res, err
}

// target reads what a resource leads to, and its filters.
func (r *resourceReader) target(t *tree, o *object, kind *tree, res *control.Resource) error {
	switch kind.value {
	case "internet":
		res.Kind = control.KindInternet
		return nil
	case "cidr":
		res.Kind = control.KindCIDR
	case "dns":
		res.Kind = control.KindDNS
	default:
		return kind.errorf("want cidr, dns or internet")
	}
	address, filters := o.take("address"), o.take("filters")
	if address == nil {
		return t.errorf(`"address" is missing`)
	}
	if filters == nil {
		return t.errorf(`"filters" is missing; write [] to permit everything`)
	}
	var err error
	if res.Kind == control.KindCIDR {
		res.Prefix, err = readPrefix(address)
	} else {
		res.Pattern, err = readPattern(address)
	}
	if err != nil {
		return err
	}
	res.Filters, err = readFilters(filters)
	return err
}

func readPattern(t *tree) (dns.Pattern, error) {
	s, err := t.text()
	if err != nil {
		return dns.Pattern{}, err
	}
	p, err := dns.NewPattern(s)
	return p, at(t, err)
}

func (r *resourceReader) expiry(t *tree, into *time.Time) error {
	if t == nil || t.value == nil {
		return nil
	}
	unix, err := t.integer(0, math.MaxInt64)
	if err == nil {
		*into = control.Expiry(unix, r.start)
	}
	return err
}

func readFilters(t *tree) (filters []fib.Filter, err error) {
	all, err := t.array(control.MaxFilters)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		f, err := readFilter(e)
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
	}
	return filters, nil
}

func readFilter(t *tree) (f fib.Filter, err error) {
	o, err := t.object()
	if err != nil {
		return f, err
	}
	protocol := o.take("protocol")
	if protocol == nil {
		return f, t.errorf(`"protocol" is missing: tcp, udp or icmp`)
	}
	switch protocol.value {
	case "icmp":
		return fib.Filter{Protocol: packet.ProtoICMP}, o.rest("protocol (icmp has no ports)")
	case "tcp":
		f.Protocol = packet.ProtoTCP
	case "udp":
		f.Protocol = packet.ProtoUDP
	default:
		return f, protocol.errorf("want tcp, udp or icmp")
	}
	f.Last = math.MaxUint16
	for key, into := range map[string]*uint16{"port_range_start": &f.First, "port_range_end": &f.Last} {
		if p := o.take(key); p != nil {
			n, err := p.integer(0, math.MaxUint16)
			if err != nil {
				return f, err
			}
			*into = uint16(n)
		}
	}
	if f.First > f.Last {
		return f, t.errorf("ports %d to %d run backwards; swap port_range_start and port_range_end", f.First, f.Last)
	}
	return f, o.rest("protocol, port_range_start, port_range_end")
}

func (r *resourceReader) names(t *tree, base *control.PolicyBase) error {
	if t == nil {
		return nil
	}
	all, err := t.array(fib.MaxNames)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := r.name(e, base); err != nil {
			return err
		}
	}
	if len(r.proxies) > fib.MaxNames {
		return t.errorf("%d proxy addresses, the most one client takes is %d", len(r.proxies), fib.MaxNames)
	}
	return nil
}

// name reads one name: an assignment for each of its resources.
func (r *resourceReader) name(t *tree, base *control.PolicyBase) error {
	o, err := t.object()
	if err != nil {
		return err
	}
	domain, resources := o.take("domain"), o.take("resources")
	proxies, resolved := o.take("proxy_ips"), o.take("resolved_ips")
	if domain == nil || resources == nil || proxies == nil || resolved == nil {
		return t.errorf(`"domain", "resources", "proxy_ips" and "resolved_ips" are required`)
	}
	var a control.Assignment
	if a.Domain, err = domain.text(); err != nil {
		return err
	}
	a.Domain = dns.Canonical(a.Domain)
	err = firstError(
		func() (err error) { a.Proxies, err = readAddrs(proxies, maxNameProxies); return err },
		func() (err error) { a.Resolved, err = readAddrs(resolved, maxNameResolved); return err },
		func() error { return r.claim(proxies, a, base) },
		func() error { return o.rest("domain, resources, proxy_ips, resolved_ips") },
	)
	if err != nil {
		return err
	}
	ids, err := resources.array(maxNameResources)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return resources.errorf("a name needs a resource of type dns")
	}
	for _, id := range ids {
		if err := r.assign(id, a); err != nil {
			return err
		}
	}
	return nil
}

// claim takes the proxy addresses for a name; nobody else may have them.
func (r *resourceReader) claim(t *tree, a control.Assignment, base *control.PolicyBase) error {
	for _, proxy := range a.Proxies {
		if !base.IsProxy(proxy) {
			return t.errorf("%v lies in none of the proxy ranges; choose another", proxy)
		}
		if other, ok := r.proxies[proxy]; ok {
			return t.errorf("%v stands for %q already; choose another", proxy, clip(other))
		}
		r.proxies[proxy] = a.Domain
	}
	return nil
}

// assign adds the assignment for one resource of a name.
func (r *resourceReader) assign(t *tree, a control.Assignment) error {
	text, err := t.text()
	if err != nil {
		return err
	}
	a.Resource = control.ResourceID(text)
	i, ok := r.index[a.Resource]
	if !ok {
		return t.errorf("the client has no resource %q", clip(text))
	}
	res := &r.client.Resources[i]
	if res.Kind != control.KindDNS {
		return t.errorf("resource %q is not of type dns", clip(text))
	}
	if !res.Pattern.Match(a.Domain) {
		return t.errorf("the address %q of resource %q does not match %q", res.Pattern, clip(text), clip(a.Domain))
	}
	r.client.Names = append(r.client.Names, a)
	return nil
}
