package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Parse reads a policy file of that name. An error is of type Problems.
func Parse(name string, b []byte) (*File, error) { return ParseWithin(name, b, MaxMarks) }

// ParseWithin is Parse for a text from elsewhere. It refuses one with more than so many marks, before it
// takes memory for what they stand for: up to 600 bytes for a mark, some tens for a byte.
func ParseWithin(name string, b []byte, marks int) (*File, error) {
	s := &source{file: name}
	root := s.tree(b, min(marks, MaxMarks))
	if root == nil || len(s.problems) > 0 {
		return nil, s.problems.sorted()
	}
	s.fit(root, language, "the file")
	f := s.readFile(root)
	if len(s.problems) > 0 {
		return nil, s.problems.sorted()
	}
	return f, nil
}

// readFile reads what fits its shape; the rest has been reported. References to things that are
// misshapen are good, so that one mistake is reported once.
func (s *source) readFile(root *node) *File {
	f := &File{}
	names := map[string]*node{}
	for _, n := range root.list("relays") {
		s.unique(names, n, n.text("name"), "relay")
		f.Relays = append(f.Relays, Relay{n.text("name"), n.number("latitude"), n.number("longitude")})
	}
	slugs, ids := map[string]*node{}, map[string]*node{}
	for _, n := range root.list("accounts") {
		s.unique(slugs, n, n.text("slug"), "account")
		r := &accountReader{source: s, ids: ids, seen: map[string]map[string]*node{}}
		f.Accounts = append(f.Accounts, r.read(n))
	}
	return f
}

// unique reports a name that another thing of its kind has.
func (s *source) unique(seen map[string]*node, n *node, name, what string) {
	if first := seen[name]; first != nil && name != "" {
		s.problem(n, fmt.Sprintf("%s %q is here for the second time", what, abbreviate(name)),
			fmt.Sprintf("rename it, or the one in line %d", first.line))
		return
	}
	seen[name] = n
}

// accountReader reads one account.
type accountReader struct {
	*source
	id string
	// ids are those of the whole file, seen are the names by kind.
	ids  map[string]*node
	seen map[string]map[string]*node
	// objects are the ids by kind and name.
	objects map[string]map[string]string
}

func (r *accountReader) read(n *node) Account {
	a := Account{Slug: n.text("slug"), Name: n.text("name"), SessionLifetime: defaultLifetime}
	r.id = r.identify(n, "account", a.Slug, namespace)
	a.ID = r.id
	if a.Name == "" {
		a.Name = a.Slug
	}
	if d, ok := lifetime(n.text("session_lifetime")); ok {
		a.SessionLifetime = d
	}
	a.DNS = r.dns(n.get("dns"))
	r.objects = map[string]map[string]string{}
	for kind, key := range map[string]string{
		"provider": "providers", "site": "sites", "service account": "service_accounts", "resource": "resources", "group": "groups",
	} {
		r.register(kind, n.list(key))
	}
	if e := r.seen["group"][everyone]; e != nil {
		r.problem(e, "the group Everyone is always there", "give this group another name")
	}
	r.objects["group"][everyone] = derive(r.id, "group/"+everyone)
	a.Groups = []Group{{ID: r.objects["group"][everyone], Name: everyone, Everyone: true}}
	for _, p := range n.list("providers") {
		a.Providers = append(a.Providers, Provider{
			ID: r.object("provider", p), Name: p.text("name"), Issuer: p.text("issuer"), ClientID: p.text("client_id"),
			SecretFile: p.text("client_secret_file"), Scopes: p.texts("scopes"), Disabled: p.flag("disabled"),
		})
	}
	for _, p := range n.list("sites") {
		a.Sites = append(a.Sites, Site{r.object("site", p), p.text("name")})
	}
	for _, p := range n.list("service_accounts") {
		a.ServiceAccounts = append(a.ServiceAccounts, ServiceAccount{r.object("service account", p), p.text("name"), p.flag("disabled")})
	}
	internet := map[string]*node{}
	for _, p := range n.list("resources") {
		if p.text("type") == string(InternetResource) {
			r.unique(internet, p, "internet", "resource of type")
		}
		a.Resources = append(a.Resources, r.resource(p))
	}
	for _, p := range n.list("groups") {
		a.Groups = append(a.Groups, r.group(p))
	}
	for _, p := range n.list("policies") {
		a.Policies = append(a.Policies, r.policy(p))
	}
	return a
}

// register gives ids to all things of a kind, before anything refers to them.
func (r *accountReader) register(kind string, all []*node) {
	r.seen[kind], r.objects[kind] = map[string]*node{}, map[string]string{}
	for _, n := range all {
		name := n.text("name")
		r.unique(r.seen[kind], n, name, kind)
		r.objects[kind][name] = r.identify(n, kind, name, r.id)
	}
}

// object is the id of a thing that has been registered.
func (r *accountReader) object(kind string, n *node) string { return r.objects[kind][n.text("name")] }

// identify returns the id that n gives itself, or the one of its name.
func (r *accountReader) identify(n *node, kind, name, space string) string {
	id := n.text("id")
	if !uuidForm.MatchString(id) {
		id = derive(space, kind+"/"+name)
	}
	if first := r.ids[id]; first != nil && first != n {
		if n.get("id") != nil || first.get("id") != nil {
			r.problem(n, "id "+id+" is here for the second time", fmt.Sprintf("remove it, or the one of line %d", first.line))
		}
		return id
	}
	r.ids[id] = n
	return id
}

// compared bounds the names that an unknown one is compared with: each takes about a microsecond.
const compared = 1_000

// refer returns the id of the thing that key names, and reports a name that nothing has.
func (r *accountReader) refer(n *node, kind, name string) string {
	id, known := r.objects[kind][name]
	if !known && name != "" {
		fix := "define it first"
		if n := len(r.objects[kind]); 0 < n && n <= compared && len(r.problems) < maxProblems {
			fix = "define it, or use " + suggestion(name, slices.Sorted(maps.Keys(r.objects[kind])))
		}
		r.problem(n, fmt.Sprintf("there is no %s %q", kind, abbreviate(name)), fix)
	}
	return id
}

func (r *accountReader) dns(n *node) DNS {
	d := DNS{Upstream: "system"}
	if n == nil || n.bad {
		return d
	}
	d.Upstream, d.Provider, d.SearchDomain = n.text("upstream"), n.text("provider"), n.text("search_domain")
	for _, s := range n.texts("servers") {
		if a, err := netip.ParseAddr(s); err == nil {
			d.Servers = append(d.Servers, a)
		}
	}
	r.needs(n, "servers", d.Upstream == "custom", "upstream "+d.Upstream)
	r.needs(n, "provider", d.Upstream == "secure", "upstream "+d.Upstream)
	return d
}

// needs reports a key that is missing or in the way.
func (r *accountReader) needs(n *node, key string, wanted bool, what string) {
	switch v := n.get(key); {
	case wanted && v == nil:
		r.problem(n, what+" has no "+key, "add the key "+key)
	case !wanted && v != nil:
		r.problem(v, what+" cannot have "+key, "remove the key")
	}
}

func (r *accountReader) resource(n *node) Resource {
	p := Resource{
		ID: r.object("resource", n), Name: n.text("name"), Type: ResourceType(n.text("type")), Address: n.text("address"),
		Description: n.text("description"), Devices: n.texts("devices"),
	}
	if n.bad {
		return p
	}
	what := "type " + string(p.Type)
	r.needs(n, "address", p.Type != InternetResource && p.Type != StaticDevicePool, what)
	r.needs(n, "site", !p.Type.pool(), what)
	r.needs(n, "devices", p.Type == StaticDevicePool, what)
	if p.Type != DNSResource {
		r.needs(n, "ip_stack", false, what)
	} else if p.IPStack = n.text("ip_stack"); p.IPStack == "" {
		p.IPStack = "dual"
	}
	if site := n.get("site"); site != nil {
		p.Site = r.refer(site, "site", site.value)
	}
	if a := n.get("address"); a != nil {
		p.Address = r.address(a, p.Type)
	}
	p.Filters = r.filters(n)
	slices.Sort(p.Devices)
	p.Devices = slices.Compact(p.Devices)
	return p
}

// address returns the canonical form of a resource's address.
func (r *accountReader) address(n *node, t ResourceType) string {
	var what, fix string
	result := strings.ToLower(n.value)
	switch t {
	case DNSResource, DynamicDevicePool:
		what, fix = checkPattern(n.value)
	case CIDRResource, IPResource:
		p, ok := prefix(n.value)
		switch {
		case !ok:
			what, fix = checkPrefix(n.value)
		case t == IPResource && !p.IsSingleIP():
			what, fix = fmt.Sprintf("%v is more than one address", p), "make the resource's type cidr"
		default:
			what, fix = checkRoute(p)
		}
		if result = p.String(); t == IPResource {
			result = p.Addr().String()
		}
	}
	if what != "" {
		r.problem(n, what, fix)
	}
	return result
}

// filters reads a resource's filters: one for each range of ports, in order.
func (r *accountReader) filters(n *node) []Filter {
	var all []Filter
	where := map[Filter]*node{}
	add := func(f Filter, at *node) {
		if len(all) == maxRanges {
			r.problem(at, fmt.Sprintf("this is range number %d of ports", maxRanges+1), "join ranges, or split the resource")
			return
		}
		for _, other := range all {
			if other.Protocol == f.Protocol && other.First <= f.Last && f.First <= other.Last {
				r.problem(at, "this overlaps with the filter in line "+fmt.Sprint(where[other].line), "join the two")
				return
			}
		}
		all, where[f] = append(all, f), at
	}
	for _, c := range n.list("filters") {
		protocol := c.text("protocol")
		if protocol == "icmp" {
			r.needs(c, "ports", false, "a filter for icmp")
			add(Filter{Protocol: protocol}, c)
			continue
		}
		if c.get("ports") == nil {
			add(Filter{protocol, 0, 65535}, c)
		}
		for _, v := range c.list("ports") {
			if first, last, ok := ports(v.value); ok {
				add(Filter{protocol, first, last}, v)
			}
		}
	}
	slices.SortFunc(all, compareFilters)
	return all
}

func (r *accountReader) group(n *node) Group {
	g := Group{ID: r.object("group", n), Name: n.text("name")}
	for _, m := range n.texts("members") {
		g.Emails = append(g.Emails, strings.ToLower(m))
	}
	for _, m := range n.list("service_accounts") {
		g.ServiceAccounts = append(g.ServiceAccounts, r.refer(m, "service account", m.value))
	}
	for _, c := range n.list("claims") {
		p := c.get("provider")
		if p == nil {
			continue
		}
		g.Claims = append(g.Claims, Claim{r.refer(p, "provider", p.value), c.text("claim"), c.text("value")})
	}
	slices.Sort(g.Emails)
	g.Emails = slices.Compact(g.Emails)
	slices.Sort(g.ServiceAccounts)
	g.ServiceAccounts = slices.Compact(g.ServiceAccounts)
	return g
}

func (r *accountReader) policy(n *node) Policy {
	p := Policy{Name: n.text("name"), Disabled: n.flag("disabled"), FlowLogs: n.flag("flow_logs")}
	if p.Name == "" {
		p.Name = n.text("group") + " to " + n.text("resource")
	}
	if r.seen["policy"] == nil {
		r.seen["policy"] = map[string]*node{}
	}
	if first := r.seen["policy"][p.Name]; first != nil {
		r.problem(n, fmt.Sprintf("policy %q is here for the second time", abbreviate(p.Name)),
			fmt.Sprintf("give it a name of its own, or join it with the one in line %d", first.line))
	}
	r.seen["policy"][p.Name] = n
	p.ID = r.identify(n, "policy", p.Name, r.id)
	if g := n.get("group"); g != nil {
		p.Group = r.refer(g, "group", g.value)
	}
	if c := n.get("resource"); c != nil {
		p.Resource = r.refer(c, "resource", c.value)
	}
	if c := n.get("conditions"); c != nil && !c.bad {
		p.Conditions = r.conditions(c)
	}
	return p
}

func (r *accountReader) conditions(n *node) (c Conditions) {
	c.ClientVerified = n.flag("client_verified")
	if v, values, not := r.either(n, "remote_ip"); v != nil {
		c.RemoteIP = &RemoteIP{Not: not}
		for _, item := range values {
			if p, ok := prefix(item.value); ok {
				c.RemoteIP.Prefixes = append(c.RemoteIP.Prefixes, p)
			}
		}
	}
	if v, values, not := r.either(n, "region"); v != nil {
		c.Region = &OneOf{Not: not}
		for _, item := range values {
			c.Region.Values = append(c.Region.Values, item.value)
		}
	}
	if v, values, not := r.either(n, "provider"); v != nil {
		c.Provider = &OneOf{Not: not}
		for _, item := range values {
			c.Provider.Values = append(c.Provider.Values, r.refer(item, "provider", item.value))
		}
	}
	for _, v := range n.list("time") {
		c.Times = append(c.Times, window(v))
	}
	return c
}

// either returns a condition of the form "in" or "not_in", which must have one of the two.
func (r *accountReader) either(n *node, key string) (v *node, values []*node, not bool) {
	if v = n.get(key); v == nil {
		return nil, nil, false
	}
	in, notIn := v.get("in"), v.get("not_in")
	if (in == nil) == (notIn == nil) {
		r.problem(v, key+" needs either in or not_in", "write one of the two")
		return nil, nil, false
	}
	return v, append(v.list("in"), v.list("not_in")...), notIn != nil
}

// window reads a time condition whose texts have been checked.
func window(n *node) Window {
	w := Window{Zone: n.text("zone"), location: time.UTC}
	if l, err := zone(w.Zone); err == nil {
		w.location = l
	}
	for _, d := range n.texts("days") {
		w.Days = append(w.Days, time.Weekday(max(0, slices.Index(days, d))))
	}
	for _, t := range n.texts("ranges") {
		if d, ok := dayRange(t); ok {
			w.Ranges = append(w.Ranges, d)
		}
	}
	if n.get("ranges") == nil {
		w.Ranges = []DayRange{{0, day}}
	}
	slices.Sort(w.Days)
	w.Days = slices.Compact(w.Days)
	return w
}
