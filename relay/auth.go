package relay

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/firelane/firelane/protocol/stun"
)

// PortalRealm is the realm of Firezone: keys are computed with it whatever a request says.
const PortalRealm = "firezone"

// DefaultRealm is the realm of a relay with users of its own.
const DefaultRealm = "firelane"

// maxRealm bounds what a realm adds to every refusal.
const maxRealm = 128

// Credentials say whose requests are valid. They come in two kinds, by SharedSecret and by Users.
type Credentials struct {
	realm  string
	secret string
	users  map[string][md5.Size]byte
}

// SharedSecret makes credentials of the kind that the portal hands out: the user name is
// "<expiry>:<salt>", with the expiry in seconds of Unix time, and the password is that of
// Password. The relay keeps no list of users; a secret stays valid as long as the relay has it.
func SharedSecret(secret string) (Credentials, error) {
	if secret == "" {
		return Credentials{}, errors.New("relay: empty secret")
	}
	return Credentials{realm: PortalRealm, secret: secret}, nil
}

// Password returns the password that belongs to a user name of the shared-secret kind:
// base64, without padding, of SHA-256("<expiry>:<secret>:<salt>").
func Password(expiry int64, secret, salt string) string {
	var b [passwordSize]byte
	password(&b, []byte(strconv.FormatInt(expiry, 10)), secret, []byte(salt))
	return string(b[:])
}

// Users makes long-term credentials (RFC 8489 section 9.2) from names and passwords; realm ""
// means DefaultRealm.
func Users(realm string, passwords map[string]string) (Credentials, error) {
	if realm == "" {
		realm = DefaultRealm
	}
	if len(realm) > maxRealm {
		return Credentials{}, fmt.Errorf("relay: realm of %d bytes, at most %d allowed", len(realm), maxRealm)
	}
	if len(passwords) == 0 {
		return Credentials{}, errors.New("relay: no users")
	}
	c := Credentials{realm: realm, users: make(map[string][md5.Size]byte, len(passwords))}
	for name, word := range passwords {
		if name == "" || word == "" {
			return Credentials{}, errors.New("relay: user without name or password")
		}
		c.users[name] = stun.LongTermKey([]byte(name), []byte(realm), []byte(word))
	}
	return c, nil
}

// identity is what a USERNAME turned out to be.
type identity struct {
	key [md5.Size]byte
	// signs: refusals of signed requests are signed with key before the request has proved anything.
	// Firezone's clients ignore a refusal that is not signed. With passwords that people choose, each
	// signature would be something to guess at without asking again, so there are none.
	signs bool
	// valid: the user exists and has not expired.
	valid bool
	// malformed: no user name of ours can look like this; such a request is not answered.
	malformed bool
}

// identify looks at a user name. unix is the time in seconds.
func (c *Credentials) identify(username []byte, unix int64) identity {
	if c.users != nil {
		key, ok := c.users[string(username)] // for a stranger the zero key, so that refusing takes as long
		return identity{key: key, valid: ok}
	}
	expiry, salt, ok := bytes.Cut(username, []byte{':'})
	if !ok || !isExpiry(expiry) {
		return identity{malformed: true}
	}
	at, err := strconv.ParseInt(string(expiry), 10, 64)
	if err != nil {
		return identity{malformed: true}
	}
	var word [passwordSize]byte
	password(&word, expiry, c.secret, salt)
	return identity{
		key:   stun.LongTermKey(username, []byte(c.realm), word[:]),
		signs: true,
		valid: at >= unix,
	}
}

// isExpiry reports whether b is a number in the only form that strconv would write it: other forms
// would be other user names for the same moment.
func isExpiry(b []byte) bool {
	if len(b) == 0 || len(b) > 1 && b[0] == '0' {
		return false
	}
	for _, d := range b {
		if d < '0' || d > '9' {
			return false
		}
	}
	return true
}

// passwordSize is the length of a SHA-256 sum in base64 without padding.
const passwordSize = 43

func password(dst *[passwordSize]byte, expiry []byte, secret string, salt []byte) {
	b := make([]byte, 0, 1024) // on the stack
	b = append(b, expiry...)
	b = append(b, ':')
	b = append(b, secret...)
	b = append(b, ':')
	b = append(b, salt...)
	sum := sha256.Sum256(b)
	base64.RawStdEncoding.Encode(dst[:], sum[:])
}
