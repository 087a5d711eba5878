package config

import (
	"slices"
	"strings"
	"time"
)

// Actor is who holds a client's token.
type Actor struct {
	// ServiceAccount is the id of a service account; empty for people, whom the rest describes.
	ServiceAccount string
	// Email is only to be set if the provider has verified it: it makes members of groups.
	Email string
	// Provider is the id of the provider the person signed in with.
	Provider string
	// Claims is what each provider that the person has ever used said last, by its id. Only what
	// Provider said counts: a session has the groups of who has vouched for it.
	Claims map[string]map[string][]string
}

// Grant is a policy that gives access to a resource.
type Grant struct {
	Resource *Resource
	Policy   *Policy
	// Until is when the policy's conditions cease to hold; the zero time for never.
	Until time.Time
}

// Has says whether an actor belongs to the group.
func (g *Group) Has(a Actor) bool {
	if a.ServiceAccount != "" {
		return slices.Contains(g.ServiceAccounts, a.ServiceAccount)
	}
	if g.Everyone {
		return true
	}
	if a.Email != "" {
		if _, found := slices.BinarySearch(g.Emails, strings.ToLower(a.Email)); found {
			return true
		}
	}
	return slices.ContainsFunc(g.Claims, func(c Claim) bool {
		return c.Provider == a.Provider && slices.Contains(a.Claims[c.Provider][c.Claim], c.Value)
	})
}

// GroupsOf returns the ids of the groups an actor belongs to: none if its service account or its
// provider is disabled or no longer in the file.
func (a *Account) GroupsOf(actor Actor) map[string]bool {
	ids := map[string]bool{}
	if !a.admits(actor) {
		return ids
	}
	for i := range a.Groups {
		if a.Groups[i].Has(actor) {
			ids[a.Groups[i].ID] = true
		}
	}
	return ids
}

func (a *Account) admits(actor Actor) bool {
	if actor.ServiceAccount != "" {
		return slices.ContainsFunc(a.ServiceAccounts, func(s ServiceAccount) bool { return s.ID == actor.ServiceAccount && !s.Disabled })
	}
	return actor.Provider == "" ||
		slices.ContainsFunc(a.Providers, func(p Provider) bool { return p.ID == actor.Provider && !p.Disabled })
}

// Grants returns what an actor with a context may use at now: for each resource the policy whose
// conditions hold longest, in the order of the file. Whether a gateway is there is another question.
func (a *Account) Grants(actor Actor, c Context, now time.Time) []Grant {
	groups, best := a.GroupsOf(actor), map[string]Grant{}
	for i := range a.Policies {
		p := &a.Policies[i]
		if !groups[p.Group] {
			continue
		}
		if ok, until, _ := p.Allowed(c, now); ok {
			best[p.Resource] = longer(best[p.Resource], Grant{Policy: p, Until: until})
		}
	}
	var all []Grant
	for i := range a.Resources {
		if g := best[a.Resources[i].ID]; g.Policy != nil {
			g.Resource = &a.Resources[i]
			all = append(all, g)
		}
	}
	return all
}

// Authorize decides about one resource, by id. If no policy conforms, violated names the conditions
// that failed, of all policies that would have given access; none means that there is no such
// policy, and the actor is not to learn whether there is such a resource.
func (a *Account) Authorize(resource string, actor Actor, c Context, now time.Time) (g Grant, violated []Property, ok bool) {
	i := slices.IndexFunc(a.Resources, func(r Resource) bool { return r.ID == resource })
	if i < 0 {
		return g, nil, false
	}
	groups := a.GroupsOf(actor)
	for j := range a.Policies {
		p := &a.Policies[j]
		if p.Resource != resource || !groups[p.Group] {
			continue
		}
		allowed, until, failed := p.Allowed(c, now)
		if allowed {
			g = longer(g, Grant{Resource: &a.Resources[i], Policy: p, Until: until})
		}
		violated = append(violated, failed...)
	}
	if g.Policy != nil {
		return g, nil, true
	}
	slices.Sort(violated)
	return Grant{}, slices.Compact(violated), false
}

// longer returns the grant that lasts longer; the first of two that last equally long.
func longer(a, b Grant) Grant {
	switch {
	case a.Policy == nil:
		return b
	case a.Until.IsZero() || !b.Until.IsZero() && !b.Until.After(a.Until):
		return a
	}
	return b
}
