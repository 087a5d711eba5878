package signal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Params are what a device tells about itself in the query of the upgrade.
type Params struct {
	// ExternalID is a device's own identity, after ExternalID.
	ExternalID string
	Name       string
	// IPv4, IPv6 and Port are a relay's public addresses; at least one of the former is there.
	IPv4 netip.Addr
	IPv6 netip.Addr
	Port uint16

	DeviceSerial           string
	DeviceUUID             string
	IdentifierForVendor    string
	FirebaseInstallationID string
	// PublicKey is not there for relays.
	PublicKey PublicKey
}

// DefaultRelayPort is a relay's port if it does not say.
const DefaultRelayPort = 3478

// maxParam bounds every parameter, as the portal's columns do.
const maxParam = 255

// maxQuery bounds a query before it is parsed: nine parameters of maxParam, escaped.
const maxQuery = 8 << 10

// ExternalID returns the form in which a configured id is sent: the hexadecimal SHA-256 of its
// text if that is a UUID in any notation, else the id itself.
func ExternalID(id string) string {
	if !isUUID(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// isUUID recognises 32 digits, with hyphens, in braces, or as a URN.
func isUUID(s string) bool {
	s = strings.TrimPrefix(s, "urn:uuid:")
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		s, ok = strings.CutSuffix(inner, "}")
		if !ok {
			return false
		}
	}
	if len(s) == 32 {
		s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	}
	_, err := ParseID(s)
	return err == nil
}

// Query returns the parameters of a device of this role, in the order in which deployed devices
// send them, form-encoded.
func (p Params) Query(r Role) string {
	var q []string
	add := func(key, value string) {
		if value != "" {
			q = append(q, key+"="+url.QueryEscape(value))
		}
	}
	if r == RoleRelay {
		add("name", p.Name)
		add("ipv4", addrText(p.IPv4))
		add("ipv6", addrText(p.IPv6))
		if p.Port != 0 {
			add("port", strconv.Itoa(int(p.Port)))
		}
		return strings.Join(q, "&")
	}
	add("external_id", p.ExternalID)
	add("name", p.Name)
	add("device_serial", p.DeviceSerial)
	add("device_uuid", p.DeviceUUID)
	add("identifier_for_vendor", p.IdentifierForVendor)
	add("firebase_installation_id", p.FirebaseInstallationID)
	add("public_key", p.PublicKey.String())
	return strings.Join(q, "&")
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// ParamError lists what is wrong with the parameters of an upgrade, in the words of the portal's
// 400: "public_key is missing; name is too long".
type ParamError struct{ Problems []string }

// Error joins the problems.
func (e *ParamError) Error() string { return strings.Join(e.Problems, "; ") }

// Refusal returns the answer that the error deserves.
func (e *ParamError) Refusal() Refusal {
	return NewRefusal(400, "Bad Request", CodeInvalidParams, e.Error())
}

// ParseParams reads the query of an upgrade. Unknown parameters are ignored, the first of equal
// ones counts. The error is a *ParamError.
func ParseParams(r Role, query string) (Params, error) {
	e := &ParamError{}
	if len(query) > maxQuery {
		e.add("query", "is too long")
		return Params{}, e
	}
	v, err := url.ParseQuery(query)
	if err != nil {
		e.add("query", "is malformed")
		return Params{}, e
	}
	get := func(key string) string {
		s := v.Get(key)
		if len(s) > maxParam {
			e.add(key, "is too long")
		}
		return s
	}
	p := Params{Name: get("name")}
	if r == RoleRelay {
		p.parseRelay(get, e)
	} else {
		p.parseDevice(get, e)
	}
	if len(e.Problems) > 0 {
		return Params{}, e
	}
	return p, nil
}

func (e *ParamError) add(field, problem string) {
	e.Problems = append(e.Problems, field+" "+problem)
}

func (p *Params) parseDevice(get func(string) string, e *ParamError) {
	p.ExternalID = get("external_id")
	if p.ExternalID == "" {
		p.ExternalID = get("firezone_id")
	}
	if p.ExternalID == "" {
		e.add("external_id", "is missing")
	}
	p.DeviceSerial, p.DeviceUUID = get("device_serial"), get("device_uuid")
	p.IdentifierForVendor, p.FirebaseInstallationID = get("identifier_for_vendor"), get("firebase_installation_id")
	text := get("public_key")
	key, err := ParsePublicKey(text)
	switch {
	case text == "":
		e.add("public_key", "is missing")
	case err != nil:
		e.add("public_key", "is invalid")
	}
	p.PublicKey = key
}

func (p *Params) parseRelay(get func(string) string, e *ParamError) {
	parse := func(key string, fits func(netip.Addr) bool) netip.Addr {
		text := get(key)
		if text == "" {
			return netip.Addr{}
		}
		a, err := netip.ParseAddr(text)
		if err != nil || !fits(a) || a.Zone() != "" {
			e.add(key, "is invalid")
			return netip.Addr{}
		}
		return a
	}
	p.IPv4 = parse("ipv4", netip.Addr.Is4)
	p.IPv6 = parse("ipv6", func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() })
	if !p.IPv4.IsValid() && !p.IPv6.IsValid() && len(e.Problems) == 0 {
		e.add("ipv4", "and ipv6 are missing")
	}
	p.Port = DefaultRelayPort
	if text := get("port"); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			e.add("port", "is invalid")
		}
		p.Port = uint16(n)
	}
}

// TokenHeader carries the token, after "Bearer ".
const TokenHeader = "X-Authorization"

// CleanToken returns text without any white space, as devices send their token.
func CleanToken(text string) Secret { return NewSecret(strings.Join(strings.Fields(text), "")) }

// AuthorizationHeader returns the value of TokenHeader for a token.
func AuthorizationHeader(token Secret) string { return "Bearer " + token.Reveal() }

// ErrNoToken is returned when an upgrade carries no token.
var ErrNoToken = errors.New("no token")

// maxToken bounds a token: deployed ones have 330 characters, and up to 128 of a nonce.
const maxToken = 4096

// TokenFrom returns the token of an upgrade: from the header, else from the parameter token.
func TokenFrom(header, query string) (Secret, error) {
	if t, ok := strings.CutPrefix(header, "Bearer "); ok && t != "" && len(t) <= maxToken {
		return NewSecret(t), nil
	}
	if len(query) > maxQuery {
		return Secret{}, ErrNoToken
	}
	v, err := url.ParseQuery(query)
	if t := v.Get("token"); err == nil && t != "" && len(t) <= maxToken {
		return NewSecret(t), nil
	}
	return Secret{}, ErrNoToken
}
