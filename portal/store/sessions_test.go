package store

import (
	"slices"
	"testing"
	"time"
)

func session(account, person string, now time.Time) TokenOrder {
	return TokenOrder{Account: account, Kind: ClientToken, Subject: person, Expires: now.Add(24 * time.Hour)}
}

// A person has so many sessions: the oldest go, with the authorizations on them, and of those that have
// ended few are kept. Other people's and other accounts' stay.
func TestSessionsOfAPersonAreBounded(t *testing.T) {
	const most = 3
	s := open(t, Options{Limits: Limits{Sessions: most}})
	ctx := t.Context()
	for _, of := range [][2]string{{"acme", "bob"}, {"other", "alice"}} {
		_, _, err := s.CreateToken(ctx, session(of[0], of[1], noon), noon)
		check(t, err)
	}
	c, g := device(t, s, "acme", Client, "c"), device(t, s, "acme", Gateway, "g")
	var ids, texts, gone []string
	for i := range 4 * most {
		now := noon.Add(time.Duration(i) * time.Second)
		k, text, ended, err := s.CreateSession(ctx, session("acme", "alice", now), now)
		check(t, err)
		if ids, texts, gone = append(ids, k.ID), append(texts, text), append(gone, ended...); i == 0 {
			a := authorization(c, g, "id")
			a.Token = k.ID
			check(t, s.PutAuthorization(ctx, a))
		}
	}
	if want := ids[:len(ids)-most]; !slices.Equal(gone, want) {
		t.Errorf("ended %v, want %v", gone, want)
	}
	for i, text := range texts {
		_, err := s.Authenticate(ctx, text, noon.Add(time.Minute), ClientToken)
		if i < len(texts)-most {
			wantErr(t, err, ErrToken)
		} else {
			check(t, err)
		}
	}
	if all := must(s.Tokens(ctx, "acme", TokenFilter{Subject: "alice", Revoked: true}))(t); len(all) > 2*most {
		t.Errorf("%d are kept", len(all))
	}
	if n := must(s.Counts(ctx, "acme"))(t); n.Authorizations != 0 {
		t.Errorf("%d authorizations are left", n.Authorizations)
	}
	for _, of := range [][2]string{{"acme", "bob"}, {"other", "alice"}} {
		if left := must(s.Tokens(ctx, of[0], TokenFilter{Subject: of[1]}))(t); len(left) != 1 {
			t.Errorf("%v has %d sessions", of, len(left))
		}
	}
	_, _, _, err := s.CreateSession(ctx, TokenOrder{Account: "acme", Kind: GatewayToken, Subject: "site"}, noon)
	wantErr(t, err, ErrInvalid)
}

// Sessions that have expired do not count, and go when there are too many.
func TestExpiredSessionsMakeRoom(t *testing.T) {
	const most = 2
	s := open(t, Options{Limits: Limits{Sessions: most}})
	for i := range 10 {
		now := noon.Add(time.Duration(i) * 48 * time.Hour) // the one before has expired
		_, _, ended, err := s.CreateSession(t.Context(), session("acme", "alice", now), now)
		check(t, err)
		if len(ended) > 0 {
			t.Errorf("session %d ends %v", i, ended)
		}
	}
	if n := must(s.Counts(t.Context(), "acme"))(t).Tokens; n != most+1 {
		t.Errorf("%d tokens are left", n)
	}
}
