package config

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wednesday is a Wednesday at noon, UTC.
var wednesday = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// policyWith returns the policy of a file whose conditions are given.
func policyWith(t testing.TB, conditions string) *Policy {
	t.Helper()
	f := parse(t, head+`
  providers: [{name: company, issuer: "https://id.example", client_id: x, id: 99999999-9999-4999-8999-999999999999}]
  resources: [{name: r, type: internet, site: here}]
  policies: [{group: ops, resource: r, conditions: `+conditions+`}]`)
	return &f.Accounts[0].Policies[0]
}

func TestConditions(t *testing.T) {
	home := Context{RemoteIP: netip.MustParseAddr("198.51.100.7"), Region: "DE", Provider: "99999999-9999-4999-8999-999999999999", Verified: true}
	mapped := home
	mapped.RemoteIP = netip.MustParseAddr("::ffff:198.51.100.7")
	for _, c := range []struct {
		conditions string
		context    Context
		want       string // the violated properties
	}{
		{"{}", Context{}, "[]"},
		{"{remote_ip: {in: [198.51.100.0/24]}}", home, "[]"},
		{"{remote_ip: {in: [198.51.100.0/24]}}", mapped, "[]"},
		{"{remote_ip: {in: [198.51.100.8, 2001:db8::/32]}}", home, "[remote_ip]"},
		{"{remote_ip: {not_in: [198.51.100.0/24]}}", home, "[remote_ip]"},
		{"{remote_ip: {not_in: [10.0.0.0/8]}}", home, "[]"},
		{"{remote_ip: {not_in: [10.0.0.0/8]}}", Context{}, "[remote_ip]"},
		{"{region: {in: [DE]}}", home, "[]"},
		{"{region: {in: [FR]}}", home, "[remote_ip_location_region]"},
		{"{region: {not_in: [FR]}}", home, "[]"},
		{"{region: {not_in: [FR]}}", Context{}, "[remote_ip_location_region]"},
		{"{provider: {in: [company]}}", home, "[]"},
		{"{provider: {in: [company]}}", Context{}, "[auth_provider_id]"},
		{"{provider: {not_in: [company]}}", home, "[auth_provider_id]"},
		{"{provider: {not_in: [company]}}", Context{}, "[]"},
		{"{client_verified: true}", home, "[]"},
		{"{client_verified: true}", Context{}, "[client_verified]"},
		{"{client_verified: false}", Context{}, "[]"},
		{`{time: [{days: [thu], zone: UTC}], region: {in: [FR]}, client_verified: true}`, Context{},
			"[remote_ip_location_region current_utc_datetime client_verified]"},
	} {
		ok, until, violated := policyWith(t, c.conditions).Allowed(c.context, wednesday)
		if fmt.Sprint(violated) != c.want || ok != (c.want == "[]") || !until.IsZero() {
			t.Errorf("%s: %v until %v, violated %v, want %s", c.conditions, ok, until, violated, c.want)
		}
	}
	p := policyWith(t, "{}")
	p.Disabled = true
	if ok, _, violated := p.Allowed(home, wednesday); ok || violated != nil {
		t.Errorf("disabled: %v, %v", ok, violated)
	}
}

// Each line: windows, an instant, and until when it is open: "closed", "always", or a time.
func TestTimes(t *testing.T) {
	work := `{time: [{days: [mon, tue, wed, thu, fri], ranges: ["09:00-12:00", "11:30-17:00", "20-21:30:15"], zone: Europe/Berlin}]}`
	weekend := `{time: [{days: [sat, sun], zone: UTC}]}`
	night := `{time: [{days: [fri], ranges: ["22:00-24:00"], zone: UTC}, {days: [sat], ranges: ["00:00-06:00"], zone: UTC}]}`
	relay := `{time: [{days: [wed], ranges: ["08:00-16:00"], zone: UTC}, {days: [wed], ranges: ["08:00-16:00"], zone: America/New_York}]}`
	all := `{time: [{days: [mon, tue, wed, thu, fri, sat, sun], ranges: ["00:00-23:59:59"], zone: Europe/Berlin}]}`
	early := `{time: [{days: [sun], ranges: ["01:30-02:30"], zone: Europe/Berlin}]}`
	for _, c := range []struct{ conditions, at, want string }{
		{work, "2026-03-04T07:59:59Z", "closed"},
		{work, "2026-03-04T08:00:00Z", "2026-03-04T16:00:00Z"}, // two ranges that overlap are one
		{work, "2026-03-04T15:59:59Z", "2026-03-04T16:00:00Z"},
		{work, "2026-03-04T16:00:00Z", "closed"},
		{work, "2026-03-04T19:00:00Z", "2026-03-04T20:30:15Z"},
		{work, "2026-07-01T07:00:00Z", "2026-07-01T15:00:00Z"}, // summer time
		{work, "2026-03-07T12:00:00Z", "closed"},
		{weekend, "2026-03-07T00:00:00Z", "2026-03-09T00:00:00Z"}, // no gap at midnight
		{weekend, "2026-03-06T23:59:59Z", "closed"},
		{night, "2026-03-06T23:00:00Z", "2026-03-07T06:00:00Z"},
		{night, "2026-03-07T05:59:59Z", "2026-03-07T06:00:00Z"},
		{relay, "2026-03-04T12:00:00Z", "2026-03-04T21:00:00Z"}, // one window hands over to the other
		{relay, "2026-03-04T20:00:00Z", "2026-03-04T21:00:00Z"},
		{all, "2026-03-04T12:00:00Z", "always"},
		{all, "2026-03-04T22:59:59Z", "always"},                 // the last second of a day counts
		{early, "2026-03-29T00:45:00Z", "2026-03-29T01:30:00Z"}, // the clock jumps from 2 to 3
		{early, "2026-10-25T00:15:00Z", "2026-10-25T01:30:00Z"}, // and back: 2:15 the first time
		{"{}", "2026-03-04T12:00:00Z", "always"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		got := "closed"
		if ok, until, _ := policyWith(t, c.conditions).Allowed(Context{}, at); ok && until.IsZero() {
			got = "always"
		} else if ok {
			got = until.UTC().Format(time.RFC3339)
		}
		if got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.conditions, c.at, got, c.want)
		}
	}
}

// What Allowed says about now holds until the time it says, and no longer.
func TestUntilIsTheFirstTimeThatIsClosed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var windows []Window
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			name := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"}).Draw(t, "zone")
			l, err := zone(name)
			if err != nil {
				t.Fatal(err)
			}
			w := Window{Zone: name, location: l}
			for d := range 7 {
				if rapid.Bool().Draw(t, "day") {
					w.Days = append(w.Days, time.Weekday(d))
				}
			}
			for range rapid.IntRange(1, 3).Draw(t, "ranges") {
				hour := rapid.IntRange(0, 23).Draw(t, "first")
				w.Ranges = append(w.Ranges, DayRange{hour * 3600, rapid.IntRange(hour+1, 24).Draw(t, "end") * 3600})
			}
			windows = append(windows, w)
		}
		now := wednesday.Add(time.Duration(rapid.IntRange(0, 365*24*4).Draw(t, "quarters")) * 15 * time.Minute)
		open, until := openUntil(windows, now)
		inside := func(at time.Time) bool {
			return slices.ContainsFunc(windows, func(w Window) bool { return !w.end(at).IsZero() })
		}
		if open != inside(now) {
			t.Fatalf("open %v at %v", open, now)
		}
		if !open {
			return
		}
		end := until
		if until.IsZero() {
			end = now.Add(week)
		} else if inside(until) {
			t.Fatalf("still open at %v", until)
		}
		for at := now; at.Before(end); at = at.Add(15 * time.Minute) {
			if !inside(at) {
				t.Fatalf("closed at %v, before %v", at, end)
			}
		}
	})
}

func TestExpiryIsTheEarlier(t *testing.T) {
	never, early, late := time.Time{}, wednesday, wednesday.Add(time.Hour)
	for _, c := range []struct{ until, token, want time.Time }{
		{never, never, never}, {early, never, early}, {never, early, early}, {early, late, early}, {late, early, early},
	} {
		if got := Expiry(c.until, c.token); !got.Equal(c.want) {
			t.Errorf("of %v and %v: %v", c.until, c.token, got)
		}
	}
}

func TestGroupsHaveMembers(t *testing.T) {
	f := example(t)
	a := &f.Accounts[0]
	company, ci := a.Providers[0].ID, a.ServiceAccounts[0].ID
	const other, off = "other", "off"
	a.Providers = append(a.Providers, Provider{ID: other}, Provider{ID: off, Disabled: true})
	a.ServiceAccounts = append(a.ServiceAccounts, ServiceAccount{ID: off, Disabled: true})
	a.Groups[1].ServiceAccounts = append(a.Groups[1].ServiceAccounts, off)
	for name, c := range map[string]struct {
		actor Actor
		want  string
	}{
		"by address":         {Actor{Email: "Alice@Example.com"}, "[Everyone engineering]"},
		"by claim":           {Actor{Email: "x@y", Provider: company, Claims: map[string]map[string][]string{company: {"groups": {"ops", "eng"}}}}, "[Everyone engineering]"},
		"by another's claim": {Actor{Provider: other, Claims: map[string]map[string][]string{other: {"groups": {"eng"}}}}, "[Everyone]"},
		"by another session": {Actor{Provider: other, Claims: map[string]map[string][]string{company: {"groups": {"eng"}}}}, "[Everyone]"},
		"former provider":    {Actor{Provider: "x", Email: "alice@example.com"}, "[]"},
		"disabled provider":  {Actor{Provider: off, Email: "alice@example.com"}, "[]"},
		"disabled robot":     {Actor{ServiceAccount: off}, "[]"},
		"service account":    {Actor{ServiceAccount: ci}, "[engineering]"},
		"unknown robot":      {Actor{ServiceAccount: "x", Email: "alice@example.com"}, "[]"},
		"nobody":             {Actor{}, "[Everyone]"},
	} {
		ids := a.GroupsOf(c.actor)
		names := []string{}
		for _, g := range a.Groups {
			if ids[g.ID] {
				names = append(names, g.Name)
			}
		}
		if fmt.Sprint(names) != c.want {
			t.Errorf("%s: %v, want %s", name, names, c.want)
		}
	}
}

func TestGrants(t *testing.T) {
	f := example(t)
	a := &f.Accounts[0]
	carol := Actor{Email: "carol@example.com"}
	office := Context{RemoteIP: netip.MustParseAddr("198.51.100.7"), Region: "DE", Provider: a.Providers[0].ID, Verified: true}
	cafe := Context{RemoteIP: netip.MustParseAddr("192.0.2.1"), Region: "FR"}
	resource := func(name string) *Resource {
		return &a.Resources[slices.IndexFunc(a.Resources, func(r Resource) bool { return r.Name == name })]
	}
	names := func(all []Grant) (s string) {
		for _, g := range all {
			s += g.Resource.Name + " by " + g.Policy.Name + "; "
		}
		return s
	}
	// Of two policies the one without an end wins.
	if got := names(a.Grants(carol, office, wednesday)); got != "Office network by support from the office; Printer by Everyone to Printer; " {
		t.Errorf("carol in the office: %s", got)
	}
	if got := names(a.Grants(carol, cafe, wednesday)); got != "Printer by Everyone to Printer; " {
		t.Errorf("carol in a café: %s", got)
	}
	home := office
	home.Verified = false
	g, _, ok := a.Authorize(resource("Office network").ID, carol, home, wednesday)
	if !ok || g.Policy.Name != "support at work" || !g.Until.Equal(wednesday.Add(5*time.Hour)) {
		t.Errorf("carol at home: %v, %+v", ok, g)
	}
	if _, violated, ok := a.Authorize(resource("Office network").ID, carol, cafe, wednesday.Add(8*time.Hour)); ok ||
		fmt.Sprint(violated) != "[auth_provider_id client_verified current_utc_datetime remote_ip remote_ip_location_region]" {
		t.Errorf("carol in a café at night: %v, %v", ok, violated)
	}
	for what, id := range map[string]string{"not granted": resource("Git").ID, "disabled": resource("Internet").ID, "unknown": "x"} {
		if _, violated, ok := a.Authorize(id, carol, office, wednesday); ok || violated != nil {
			t.Errorf("%s: %v, %v", what, ok, violated)
		}
	}
}
