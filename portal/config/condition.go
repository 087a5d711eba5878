package config

import (
	"net/netip"
	"slices"
	"time"
)

// Context is what conditions look at, as of the client's connection.
type Context struct {
	// RemoteIP is the address the client connected from.
	RemoteIP netip.Addr
	// Region is its country, in ISO 3166 alpha-2; empty if unknown.
	Region string
	// Provider is the id of the provider that the client's token came from; empty for service
	// accounts.
	Provider string
	// Verified says whether an administrator has verified the device.
	Verified bool
}

// Property names a condition as clients are told.
type Property string

// The properties.
const (
	PropertyRemoteIP Property = "remote_ip"
	PropertyRegion   Property = "remote_ip_location_region"
	PropertyProvider Property = "auth_provider_id"
	PropertyTime     Property = "current_utc_datetime"
	PropertyVerified Property = "client_verified"
)

// Allowed says whether the policy's conditions all hold at now, and until when they do if only time
// passes: the zero time for without end. If they do not hold, violated names those that fail. A
// disabled policy allows nothing and violates nothing.
func (p *Policy) Allowed(c Context, now time.Time) (ok bool, until time.Time, violated []Property) {
	if p.Disabled {
		return false, time.Time{}, nil
	}
	when := &p.Conditions
	if !when.RemoteIP.holds(c.RemoteIP) {
		violated = append(violated, PropertyRemoteIP)
	}
	if when.Region != nil && (c.Region == "" || !when.Region.holds(c.Region)) {
		violated = append(violated, PropertyRegion)
	}
	if !when.Provider.holds(c.Provider) {
		violated = append(violated, PropertyProvider)
	}
	open, until := openUntil(when.Times, now)
	if !open {
		violated = append(violated, PropertyTime)
	}
	if when.ClientVerified && !c.Verified {
		violated = append(violated, PropertyVerified)
	}
	if len(violated) > 0 {
		return false, time.Time{}, violated
	}
	return true, until, nil
}

// Expiry is the end of an authorization: the earlier of the end of the policy's time and that of the
// client's token. The zero time stands for never, in both.
func Expiry(until, token time.Time) time.Time {
	if until.IsZero() || !token.IsZero() && token.Before(until) {
		return token
	}
	return until
}

// holds says whether a fits; an unknown address never does.
func (r *RemoteIP) holds(a netip.Addr) bool {
	if r == nil {
		return true
	}
	a = a.Unmap().WithZone("")
	in := slices.ContainsFunc(r.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	return a.IsValid() && in != r.Not
}

func (o *OneOf) holds(v string) bool {
	return o == nil || slices.Contains(o.Values, v) != o.Not
}

// week is how far ahead openUntil looks: windows repeat after it.
const week = 7 * 24 * time.Hour

// openUntil says whether one of the windows is open at now, and until when one is without a gap, over
// midnight too; the zero time if that is more than a week, which means always. No windows are always
// open.
func openUntil(windows []Window, now time.Time) (open bool, until time.Time) {
	if len(windows) == 0 {
		return true, time.Time{}
	}
	at := now
	for at.Sub(now) <= week {
		end := at
		for i := range windows {
			if e := windows[i].end(at); e.After(end) {
				end = e
			}
		}
		if !end.After(at) {
			return at.After(now), at
		}
		at = end
	}
	return true, time.Time{}
}

// end returns when the range ends that at lies in, or the zero time if it lies in none.
func (w *Window) end(at time.Time) (latest time.Time) {
	local := at.In(w.location)
	if !slices.Contains(w.Days, local.Weekday()) {
		return time.Time{}
	}
	year, month, date := local.Date()
	for _, r := range w.Ranges {
		// Made of what clocks show, not of the seconds since midnight: days have 23 to 25 hours.
		first := time.Date(year, month, date, 0, 0, r.First, 0, w.location)
		end := time.Date(year, month, date, 0, 0, r.End, 0, w.location)
		if !at.Before(first) && at.Before(end) && end.After(latest) {
			latest = end
		}
	}
	return latest
}
