package stun

import (
	"encoding/hex"
	"net/netip"
	"testing"
)

// The vectors of RFC 5769, sections 2.1 to 2.4.
const (
	vectorRequest = "000100582112a442b7e7a701bc34d686fa87dfae80220010" + "5354554e207465737420636c69656e74" +
		"002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020" +
		"000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
	vectorResponse4 = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643" +
		"000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
	vectorResponse6 = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f722000200014" +
		"0002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
	vectorLongTerm = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000" +
		"0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700" +
		"00080014f67024656dd64a3e02b8e0712e85c9a28ca89666"

	vectorPassword = "VOkJxbRl1RmTxUk/WvJxBt"
)

func fromHex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRFC5769Request(t *testing.T) {
	var m Message
	if err := m.Parse(fromHex(t, vectorRequest)); err != nil {
		t.Fatal(err)
	}
	if m.Class != Request || m.Method != Binding || string(m.Software) != "STUN test client" ||
		m.Priority != 0x6e0001ff || m.TieBreaker != 0x932ff9b151263b36 || string(m.Username) != "evtj:h6vY" {
		t.Errorf("parsed %+v", m)
	}
	want := HasSoftware | HasPriority | HasControlled | HasUsername | HasMessageIntegrity | HasFingerprint
	if m.Has != want {
		t.Errorf("has %b, want %b", m.Has, want)
	}
	if !m.Verify([]byte(vectorPassword)) || m.Verify([]byte("VOkJxbRl1RmTxUk/WvJxBs")) || !m.VerifyFingerprint() {
		t.Error("signature or fingerprint misjudged")
	}
}

func TestRFC5769Responses(t *testing.T) {
	for _, c := range []struct{ vector, mapped string }{
		{vectorResponse4, "192.0.2.1:32853"},
		{vectorResponse6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"},
	} {
		var m Message
		if err := m.Parse(fromHex(t, c.vector)); err != nil {
			t.Fatal(err)
		}
		if m.Class != Success || m.Mapped != netip.MustParseAddrPort(c.mapped) || string(m.Software) != "test vector" {
			t.Errorf("%s: parsed %+v", c.mapped, m)
		}
		if !m.Verify([]byte(vectorPassword)) || !m.VerifyFingerprint() {
			t.Errorf("%s: signature or fingerprint refused", c.mapped)
		}
	}
}

func TestRFC5769LongTerm(t *testing.T) {
	b := fromHex(t, vectorLongTerm)
	var m Message
	if err := m.Parse(b); err != nil {
		t.Fatal(err)
	}
	if string(m.Username) != "マトリックス" || string(m.Realm) != "example.org" || string(m.Nonce) != "f//499k954d6OL34oL9FSTvy64sA" {
		t.Errorf("parsed %q %q %q", m.Username, m.Realm, m.Nonce)
	}
	key := LongTermKey(m.Username, m.Realm, []byte("TheMatrIX")) // as SASLprep leaves it
	if !m.Verify(key[:]) {
		t.Error("signature refused")
	}
	w := Start(nil, Request, Binding, m.ID)
	w.Text(Username, m.Username)
	w.Text(Nonce, m.Nonce)
	w.Text(Realm, m.Realm)
	w.Sign(key[:])
	if string(w.Bytes()) != string(b) {
		t.Errorf("built %x", w.Bytes())
	}
}
