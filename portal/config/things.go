package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kind is the kind of a thing in a file.
type Kind uint8

// The kinds, in the order in which changes come.
const (
	KindRelay Kind = iota
	KindAccount
	KindProvider
	KindSite
	KindServiceAccount
	KindGroup
	KindResource
	KindPolicy
)

func (k Kind) String() string {
	return [...]string{"relay", "account", "provider", "site", "service account", "group", "resource", "policy"}[k]
}

// key is what makes a thing the same in two files.
type key struct {
	account string
	kind    Kind
	id      string
}

// thing is one part of a file, flattened for comparing.
type thing struct {
	key    key
	slug   string
	name   string
	value  any
	fields []fieldValue
	// groups are the names of the groups whose members can notice it.
	groups []string
}

// fieldValue is a field as text. Things of one kind have the same fields in the same order, and two
// values differ exactly if their texts do. shown is for people, where it is not the same: references
// are ids, so that a thing may be renamed under its id, and shown as names.
type fieldValue struct{ name, value, shown string }

// plain are fields that are shown as they are: names and values in turn.
func plain(namesAndValues ...string) []fieldValue {
	var all []fieldValue
	for f := range slices.Chunk(namesAndValues, 2) {
		all = append(all, fieldValue{f[0], f[1], f[1]})
	}
	return all
}

func (a *Account) things() map[key]*thing {
	all := map[key]*thing{}
	add := func(k Kind, id, name string, value any, fields []fieldValue, groups []string) {
		all[key{a.ID, k, id}] = &thing{slug: a.Slug, name: name, value: value, fields: fields, groups: groups}
	}
	n := a.index()
	add(KindAccount, a.ID, a.Slug, a, a.fields(), []string{everyone})
	for i := range a.Providers {
		p := &a.Providers[i]
		add(KindProvider, p.ID, p.Name, p, p.fields(), n.groupsOfProvider(p.ID))
	}
	for i := range a.Sites {
		p := &a.Sites[i]
		add(KindSite, p.ID, p.Name, p, plain("name", p.Name), n.bySite[p.ID])
	}
	for i := range a.ServiceAccounts {
		p := &a.ServiceAccounts[i]
		add(KindServiceAccount, p.ID, p.Name, p, plain("name", p.Name, "disabled", fmt.Sprint(p.Disabled)), n.byServiceAccount[p.ID])
	}
	for i := range a.Groups {
		p := &a.Groups[i]
		add(KindGroup, p.ID, p.Name, p, p.fields(n), []string{p.Name})
	}
	for i := range a.Resources {
		p := &a.Resources[i]
		add(KindResource, p.ID, p.Name, p, p.fields(n), n.byResource[p.ID])
	}
	for i := range a.Policies {
		p := &a.Policies[i]
		groups := []string{n.names[p.Group]}
		if p.Disabled {
			groups = nil
		}
		add(KindPolicy, p.ID, p.Name, p, p.fields(n), groups)
	}
	return all
}

// index finds names and concerned groups within one account.
type index struct {
	account *Account
	names   map[string]string
	// The names of groups with a policy, by the id of what it gives access to or depends on.
	byResource, bySite, byServiceAccount map[string][]string
}

func (a *Account) index() *index {
	n := &index{a, map[string]string{}, map[string][]string{}, map[string][]string{}, map[string][]string{}}
	for _, p := range a.Sites {
		n.names[p.ID] = p.Name
	}
	for _, p := range a.Providers {
		n.names[p.ID] = p.Name
	}
	for _, p := range a.ServiceAccounts {
		n.names[p.ID] = p.Name
	}
	sites := map[string]string{}
	for i := range a.Resources {
		n.names[a.Resources[i].ID], sites[a.Resources[i].ID] = a.Resources[i].Name, a.Resources[i].Site
	}
	for i := range a.Groups {
		g := &a.Groups[i]
		n.names[g.ID] = g.Name
		for _, s := range g.ServiceAccounts {
			n.byServiceAccount[s] = append(n.byServiceAccount[s], g.Name)
		}
	}
	for i := range a.Policies {
		if p := &a.Policies[i]; !p.Disabled {
			g, site := n.names[p.Group], sites[p.Resource]
			n.byResource[p.Resource] = append(n.byResource[p.Resource], g)
			n.bySite[site] = append(n.bySite[site], g)
		}
	}
	return n
}

// groupsOfProvider returns the groups that a provider's claims make members of, and Everyone, whose
// members sign in with it.
func (n *index) groupsOfProvider(id string) []string {
	all := []string{everyone}
	for i := range n.account.Groups {
		g := &n.account.Groups[i]
		if slices.ContainsFunc(g.Claims, func(c Claim) bool { return c.Provider == id }) {
			all = append(all, g.Name)
		}
	}
	return all
}

// refs is a field that refers to other things, with words before it.
func (n *index) refs(name, before string, ids ...string) fieldValue {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = n.names[id]
	}
	if len(ids) == 0 {
		return fieldValue{name: name}
	}
	return fieldValue{name, before + strings.Join(ids, ", "), before + strings.Join(names, ", ")}
}

func (r *Relay) fields() []fieldValue {
	return plain("latitude", fmt.Sprint(r.Latitude), "longitude", fmt.Sprint(r.Longitude))
}

func (a *Account) fields() []fieldValue {
	return plain("slug", a.Slug, "name", a.Name, "session_lifetime", a.SessionLifetime.String(),
		"dns.upstream", a.DNS.Upstream, "dns.servers", join(a.DNS.Servers), "dns.provider", a.DNS.Provider,
		"dns.search_domain", a.DNS.SearchDomain)
}

func (p *Provider) fields() []fieldValue {
	return plain("name", p.Name, "issuer", p.Issuer, "client_id", p.ClientID, "client_secret_file", p.SecretFile,
		"scopes", quoted(p.Scopes), "disabled", fmt.Sprint(p.Disabled))
}

func (g *Group) fields(n *index) []fieldValue {
	claims := fieldValue{name: "claims"}
	for _, c := range g.Claims {
		what := fmt.Sprintf("%q = %q ", c.Claim, c.Value)
		claims.value += what + c.Provider + " "
		claims.shown += what + "by " + n.names[c.Provider] + " "
	}
	return append(plain("name", g.Name, "members", join(g.Emails)), n.refs("service_accounts", "", g.ServiceAccounts...), claims)
}

func (r *Resource) fields(n *index) []fieldValue {
	return append(plain("name", r.Name, "type", string(r.Type), "address", r.Address, "description", r.Description,
		"ip_stack", r.IPStack, "filters", join(r.Filters), "devices", join(r.Devices)), n.refs("site", "", some(r.Site)...))
}

func (p *Policy) fields(n *index) []fieldValue {
	c := &p.Conditions
	provider, region, remote := fieldValue{name: "conditions.provider"}, "", ""
	if c.Provider != nil {
		provider = n.refs(provider.name, in(c.Provider.Not), c.Provider.Values...)
	}
	if c.Region != nil {
		region = in(c.Region.Not) + join(c.Region.Values)
	}
	if c.RemoteIP != nil {
		remote = in(c.RemoteIP.Not) + join(c.RemoteIP.Prefixes)
	}
	return append(plain("name", p.Name, "disabled", fmt.Sprint(p.Disabled), "flow_logs", fmt.Sprint(p.FlowLogs),
		"conditions.remote_ip", remote, "conditions.region", region,
		"conditions.time", join(c.Times), "conditions.client_verified", fmt.Sprint(c.ClientVerified)),
		provider, n.refs("group", "", some(p.Group)...), n.refs("resource", "", some(p.Resource)...))
}

// String returns the filter as it would be written in a shell: tcp/80-90.
func (f Filter) String() string {
	switch {
	case f.Protocol == "icmp":
		return f.Protocol
	case f.First == f.Last:
		return fmt.Sprintf("%s/%d", f.Protocol, f.First)
	}
	return fmt.Sprintf("%s/%d-%d", f.Protocol, f.First, f.Last)
}

func compareFilters(a, b Filter) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
}

// String returns the window in one line.
func (w Window) String() string {
	names := make([]string, len(w.Days))
	for i, d := range w.Days {
		names[i] = days[d]
	}
	return fmt.Sprintf("[%s %s %s]", strings.Join(names, ","), join(w.Ranges), w.Zone)
}

// String returns the range as it is written in a file.
func (r DayRange) String() string {
	clock := func(s int) string { return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60) }
	return clock(r.First) + "-" + clock(r.End)
}

func in(not bool) string {
	if not {
		return "not in "
	}
	return "in "
}

// some is s as a list, which is empty if s is.
func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// quoted is join for texts that may have spaces in them.
func quoted(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%q", all)
}

func join[T any](all []T) string {
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, " ")
}
