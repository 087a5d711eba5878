package config

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Action says what becomes of a thing.
type Action uint8

// The actions, in the order in which changes come: what goes is told before what comes.
const (
	Removed Action = iota
	Updated
	Added
)

func (a Action) String() string { return [...]string{"removed", "updated", "added"}[a] }

// Change is one thing that differs between two files.
type Change struct {
	Action Action
	// Account is the account's id, AccountSlug its slug; empty for relays.
	Account, AccountSlug string
	Kind                 Kind
	ID, Name             string
	// Fields are those that differ, when Action is Updated.
	Fields []FieldChange
	// For names the groups whose members can notice it; sorted, without the disabled policies.
	For []string
	// Before and After are the thing itself, as *Account, *Site, *Resource and so on; nil where there
	// is none. An *Account stands for its own settings only.
	Before, After any
}

// FieldChange is one field that differs, with both values as text.
type FieldChange struct{ Name, Before, After string }

// Changed says whether a field of that name differs.
func (c *Change) Changed(field string) bool {
	return slices.ContainsFunc(c.Fields, func(f FieldChange) bool { return f.Name == field })
}

// Diff returns what differs between two files, nil standing for an empty one: removals first, then
// updates, then additions; each by account, kind and name. The order of things in a file means
// nothing.
func Diff(before, after *File) []Change {
	old, fresh := things(before), things(after)
	var all []Change
	for k, o := range old {
		n, stays := fresh[k]
		if !stays {
			all = append(all, o.change(Removed, nil, o.groups))
		} else if fields := o.compare(n); len(fields) > 0 {
			c := n.change(Updated, fields, append(slices.Clone(o.groups), n.groups...))
			c.Before = o.value
			all = append(all, c)
		}
	}
	for k, n := range fresh {
		if _, known := old[k]; !known {
			all = append(all, n.change(Added, nil, n.groups))
		}
	}
	slices.SortFunc(all, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.AccountSlug, b.AccountSlug), cmp.Compare(a.Account, b.Account),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// change makes the change that this thing undergoes.
func (t *thing) change(a Action, fields []FieldChange, groups []string) Change {
	slices.Sort(groups)
	c := Change{
		Action: a, Account: t.key.account, AccountSlug: t.slug, Kind: t.key.kind, ID: t.key.id, Name: t.name,
		Fields: fields, For: slices.Compact(groups),
	}
	if a == Removed {
		c.Before = t.value
	} else {
		c.After = t.value
	}
	return c
}

func (t *thing) compare(other *thing) []FieldChange {
	var all []FieldChange
	for i, f := range t.fields {
		o := other.fields[i]
		if f.value == o.value {
			continue
		}
		if f.shown == o.shown { // another thing of the same name
			f.shown, o.shown = f.value, o.value
		}
		all = append(all, FieldChange{f.name, f.shown, o.shown})
	}
	return all
}

// String returns the change in one line.
func (c Change) String() string {
	var b strings.Builder
	if c.AccountSlug != "" {
		fmt.Fprintf(&b, "%s: ", c.AccountSlug)
	}
	fmt.Fprintf(&b, "%v %q %v", c.Kind, c.Name, c.Action)
	for i, f := range c.Fields {
		fmt.Fprintf(&b, "%s %s %s → %s", [...]string{":", ","}[min(i, 1)], f.Name, orNone(f.Before), orNone(f.After))
	}
	if len(c.For) > 0 {
		fmt.Fprintf(&b, "; for %s", strings.Join(c.For, ", "))
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// WritePlan writes changes for people: one line each, and how many there are.
func WritePlan(w io.Writer, changes []Change) error {
	signs := [...]string{"-", "~", "+"}
	var counts [3]int
	for _, c := range changes {
		if _, err := fmt.Fprintf(w, "%s %v\n", signs[c.Action], c); err != nil {
			return err
		}
		counts[c.Action]++
	}
	_, err := fmt.Fprintf(w, "%d to remove, %d to update, %d to add\n", counts[Removed], counts[Updated], counts[Added])
	return err
}

// things are what a file consists of, by key.
func things(f *File) map[key]*thing {
	all := map[key]*thing{}
	if f == nil {
		return all
	}
	for i := range f.Relays {
		r := &f.Relays[i]
		all[key{kind: KindRelay, id: r.Name}] = &thing{name: r.Name, value: r, fields: r.fields()}
	}
	for i := range f.Accounts {
		maps.Copy(all, f.Accounts[i].things())
	}
	for k, t := range all {
		t.key = k
	}
	return all
}
