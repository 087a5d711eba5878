package server

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

const (
	// cookieName begins the names of the cookies that tie sign-ins to the browser that began them. With
	// TLS it has a prefix: browsers take such a cookie from this host only, not from one beside or
	// without TLS.
	cookieName   = "firelane_sign_in_"
	cookiePrefix = "__Host-"
	// cookiePath is where cookies go; with the prefix they go everywhere.
	cookiePath = "/sign-in/"
	// maxCookies bounds the sign-ins that one browser can have begun at a time, in several tabs. The
	// header of that many cookies has about a kilobyte.
	maxCookies = 8
)

func (s *signIns) secure() bool { return s.server.options.URL.Scheme == "https" }

// cookieName is the name of the cookie of the sign-in with a state, so that those begun in several tabs
// have one each. It tells nothing of the state.
func (s *signIns) cookieName(state string) string {
	hash := sha256.Sum256([]byte(state))
	name := cookieName + hex.EncodeToString(hash[:8])
	if s.secure() {
		name = cookiePrefix + name
	}
	return name
}

// cookie is only sent to us, only when a person comes back, and not seen by scripts.
func (s *signIns) cookie(state, value string, age time.Duration) *http.Cookie {
	return s.named(s.cookieName(state), value, age)
}

func (s *signIns) named(name, value string, age time.Duration) *http.Cookie {
	c := &http.Cookie{
		Name: name, Value: value, Path: cookiePath, MaxAge: int(age / time.Second), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if s.secure() {
		c.Path, c.Secure = "/", true
	}
	return c
}

// dropCookies makes room for one more cookie in the browser. It sends the older ones first (RFC 6265,
// section 5.4).
func (s *signIns) dropCookies(w http.ResponseWriter, r *http.Request) {
	var names []string
	for _, c := range r.Cookies() {
		if strings.HasPrefix(strings.TrimPrefix(c.Name, cookiePrefix), cookieName) {
			names = append(names, c.Name)
		}
	}
	for i := 0; len(names)-i >= maxCookies; i++ {
		http.SetCookie(w, s.named(names[i], "", -time.Second))
	}
}
