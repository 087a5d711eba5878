package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // so that time zones are known on any machine
)

// The check functions say what is wrong with a text and what to do, or nothing.

var (
	slugForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{1,62}$`)
	uuidForm  = regexp.MustCompile(uuidPattern)
	emailForm = regexp.MustCompile(`^[^\s@]+@[^\s@]+$`)
	labelForm = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$`)
)

// ownPaths are the first parts of the portal's own addresses; accounts have a page at /<slug>.
var ownPaths = []string{"api", "client", "gateway", "healthz", "ingestion", "metrics", "readyz", "relay", "sign-in", "sign-out"}

func checkSlug(s string) (what, fix string) {
	if slices.Contains(ownPaths, s) {
		return fmt.Sprintf("/%s is an address of the portal itself", s), fmt.Sprintf("use another, such as %s-1, and add id: %s if the account has been in use", s, derive(namespace, "account/"+s))
	}
	if !slugForm.MatchString(s) {
		return fmt.Sprintf("%q is not a slug", abbreviate(s)), "use 2 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit"
	}
	return "", ""
}

func checkUUID(s string) (what, fix string) {
	if !uuidForm.MatchString(s) {
		return fmt.Sprintf("%q is not an id", abbreviate(s)), "write a UUID in lower case, such as 3f0e9c1a-8a52-4a7e-9d6b-0c1d2e3f4a5b"
	}
	if s == nilUUID {
		return s + " is the UUID that stands for none", "write another, such as 3f0e9c1a-8a52-4a7e-9d6b-0c1d2e3f4a5b"
	}
	return "", ""
}

func checkEmail(s string) (what, fix string) {
	if len(s) > maxName || !emailForm.MatchString(s) {
		return fmt.Sprintf("%q is not an e-mail address", abbreviate(s)), "write one like alice@example.com; service accounts go under service_accounts"
	}
	return "", ""
}

const (
	minLifetime     = 5 * time.Minute
	maxLifetime     = 365 * 24 * time.Hour
	defaultLifetime = 7 * 24 * time.Hour
)

func checkLifetime(s string) (what, fix string) {
	if d, ok := lifetime(s); !ok || d < minLifetime || d > maxLifetime {
		return fmt.Sprintf("session lifetime cannot be %q", abbreviate(s)), "write a number and a unit (m, h or d), from 5m to 365d"
	}
	return "", ""
}

func lifetime(s string) (time.Duration, bool) {
	units := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	if len(s) < 2 || len(s) > 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	unit := units[s[len(s)-1:]]
	return time.Duration(n) * unit, err == nil && unit != 0
}

func checkIssuer(s string) (what, fix string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(s) > maxName {
		return fmt.Sprintf("%q is not an issuer", abbreviate(s)), "write an address like https://login.example.com, without a query"
	}
	return "", ""
}

func checkPath(s string) (what, fix string) {
	if !strings.HasPrefix(s, "/") {
		return fmt.Sprintf("%q is not an absolute path", abbreviate(s)), "begin it with a slash"
	}
	return "", ""
}

// Reserved ranges: tunnel addresses, proxy addresses and sentinels are taken from them.
var reserved = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd00:2021:1111::/48")}

func overlapsReserved(p netip.Prefix) bool { return p.Overlaps(reserved[0]) || p.Overlaps(reserved[1]) }

func checkServer(s string) (what, fix string) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return fmt.Sprintf("%q is not an IP address", abbreviate(s)), "write the resolver's address without a port"
	}
	if overlapsReserved(netip.PrefixFrom(a, a.BitLen())) {
		return fmt.Sprintf("%s is in a range that the tunnel uses", s), "use a resolver outside 100.64.0.0/10 and fd00:2021:1111::/48"
	}
	return "", ""
}

func checkPrefix(s string) (what, fix string) {
	if _, ok := prefix(s); !ok {
		return fmt.Sprintf("%q is neither an address nor a prefix", abbreviate(s)), "write one like 192.0.2.0/24, with no bits set behind the length"
	}
	return "", ""
}

// prefix parses an address or a prefix without host bits.
func prefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), a.Zone() == "" && !a.Is4In6()
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil && p == p.Masked() && !p.Addr().Is4In6()
}

func checkRegion(s string) (what, fix string) {
	if len(s) != 2 || strings.ToUpper(s) != s || s[0] < 'A' || s[0] > 'Z' || s[1] < 'A' || s[1] > 'Z' {
		return fmt.Sprintf("%q is not a country", abbreviate(s)), "write the two capital letters of ISO 3166, such as DE"
	}
	return "", ""
}

func checkPort(s string) (what, fix string) {
	if _, _, ok := ports(s); !ok {
		return fmt.Sprintf("%q is not a port or a range of ports", abbreviate(s)), "write one like 443 or 8000-9000, from 1 to 65535"
	}
	return "", ""
}

func ports(s string) (low, high uint16, ok bool) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	return uint16(a), uint16(b), err1 == nil && err2 == nil && 1 <= a && a <= b
}

func checkDomain(s string) (what, fix string) {
	if labels := strings.Split(strings.ToLower(s), "."); len(s) > 253 || !allLabels(labels) {
		return fmt.Sprintf("%q is not a domain", abbreviate(s)), "write one like corp.example, without a dot at the end"
	}
	return "", ""
}

func allLabels(labels []string) bool {
	for _, l := range labels {
		if len(l) > 63 || !labelForm.MatchString(l) {
			return false
		}
	}
	return true
}

// broad are the top-level domains below which a pattern must name something: "*.com" is a mistake.
var broad = map[string]bool{
	"com": true, "org": true, "net": true, "edu": true, "gov": true, "mil": true, "int": true, "biz": true, "info": true,
	"io": true, "dev": true, "app": true, "co": true, "ai": true, "eu": true, "de": true, "uk": true, "us": true, "fr": true, "cloud": true,
}

// checkPattern checks a pattern of names: ** stands for anything, * for anything without a dot, ? for
// one character that is no dot.
func checkPattern(s string) (what, fix string) {
	labels := strings.Split(strings.ToLower(s), ".")
	top := labels[len(labels)-1]
	plain := func(r rune) rune {
		if r == '*' || r == '?' {
			return 'x'
		}
		return r
	}
	switch {
	case len(s) > 253 || !allLabels(strings.Split(strings.Map(plain, strings.ToLower(s)), ".")):
		return fmt.Sprintf("%q is not a pattern of names", abbreviate(s)), "write one like git.corp.example, *.corp.example or **.corp.example"
	case strings.ContainsAny(top, "*?"):
		return fmt.Sprintf("the last part of %q has a wildcard", abbreviate(s)), "write the top-level domain out"
	case top == "localhost":
		return fmt.Sprintf("%q is on the client itself", abbreviate(s)), "use another name"
	case isAddress(s):
		return fmt.Sprintf("%q is an address, not a name", s), "make the resource's type ip"
	case broad[top] && strings.Trim(strings.Join(labels[:len(labels)-1], ""), "*?") == "":
		return fmt.Sprintf("%q would take in all of .%s", abbreviate(s), top), "name a domain below it"
	}
	return "", ""
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// checkRoute checks the address of a cidr or ip resource.
func checkRoute(p netip.Prefix) (what, fix string) {
	switch {
	case p.Bits() == 0:
		return "the whole Internet is not a prefix", "make the resource's type internet"
	case p.Overlaps(netip.MustParsePrefix("127.0.0.0/8")) || p.Contains(netip.IPv6Loopback()):
		return fmt.Sprintf("%v is on the client itself", p), "use another address"
	case overlapsReserved(p):
		return fmt.Sprintf("%v is in a range that the tunnel uses", p), "use addresses outside 100.64.0.0/10 and fd00:2021:1111::/48"
	}
	return "", ""
}

func checkDayRange(s string) (what, fix string) {
	if _, ok := dayRange(s); !ok {
		return fmt.Sprintf("%q is not a part of a day", abbreviate(s)), "write one like 09:00-17:30; one over midnight becomes two, as in 22:00-24:00 and 00:00-06:00"
	}
	return "", ""
}

// dayRange parses HH[:MM[:SS]]-HH[:MM[:SS]]. The last second of the day, as an end, means its end.
func dayRange(s string) (DayRange, bool) {
	from, to, found := strings.Cut(s, "-")
	a, ok1 := clock(from)
	b, ok2 := clock(to)
	if b == day-1 {
		b = day
	}
	return DayRange{a, b}, found && ok1 && ok2 && a < b
}

func clock(s string) (seconds int, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return 0, false
	}
	for i, unit := range []int{60 * 60, 60, 1}[:len(parts)] {
		n, err := strconv.ParseUint(parts[i], 10, 8)
		if err != nil || len(parts[i]) != 2 || i > 0 && n > 59 {
			return 0, false
		}
		seconds += int(n) * unit
	}
	return seconds, seconds <= day
}

func checkZone(s string) (what, fix string) {
	if _, err := zone(s); err != nil {
		return fmt.Sprintf("there is no time zone %q", abbreviate(s)), "write one like Europe/Berlin or UTC"
	}
	return "", ""
}

func zone(s string) (*time.Location, error) {
	if s == "" || s == "Local" || len(s) > 64 {
		return nil, fmt.Errorf("time zone %q depends on the machine", s)
	}
	return time.LoadLocation(s)
}
