package wireguard

import (
	"encoding/hex"
	"testing"
)

// Answers computed independently for HKDF with HMAC-BLAKE2s. HMAC pads a key with zeroes, so
// short keys stand for 32-byte ones.
func TestDeriveKnownAnswers(t *testing.T) {
	for _, c := range []struct{ key, input, t0, t1, t2 string }{
		{"test-key", "test-input",
			"6f0e5ad38daba1bea8a0d213688736f19763239305e0f58aba697f9ffc41c633",
			"df1194df20802a4fe594cde27e92991c8cae66c366e8106aaa937a55fa371e8a",
			"fac6e2745a325f5dc5d11a5b165aad08b0ada28e7b4e666b7c077934a4d76c24"},
		{"wireguard", "wireguard",
			"491d43bbfdaa8750aaf535e334ecbfe5129967cd64635101c566d4caefda96e8",
			"1e71a379baefd8a79aa4662212fcafe19a23e2b609a3db7d6bcba8f560e3d25f",
			"31e1ae48bddfbe5de38f295e5452b1909a1b4e38e183926af3780b0c1e1f0160"},
		{"", "",
			"8387b46bf43eccfcf349552a095d8315c4055beb90208fb1be23b894bc2ed5d0",
			"58a0e5f6faefccf4807bff1f05fa8a9217945762040bcec2f4b4a62bdfe0e86e",
			"0ce6ea98ec548f8e281e93e32db65621c45eb18dc6f0a7ad94178610a2f7338e"},
	} {
		var s symmetric
		copy(s.chain[:], c.key)
		var outs [3][32]byte
		s.derive([]byte(c.input), &outs[0], &outs[1], &outs[2])
		for i, want := range []string{c.t0, c.t1, c.t2} {
			if got := hex.EncodeToString(outs[i][:]); got != want {
				t.Errorf("key %q, output %d: %s, want %s", c.key, i, got, want)
			}
		}
	}
}

// The starting values that every implementation has in its source as constants.
func TestInitialChainAndHash(t *testing.T) {
	var zero PublicKey
	s := newSymmetric(&zero)
	const chain = "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36"
	if got := hex.EncodeToString(s.chain[:]); got != chain {
		t.Errorf("chaining key %s, want %s", got, chain)
	}
}

func TestKeysHideAndShowThemselves(t *testing.T) {
	k, psk := PrivateKey{1}, PresharedKey{2}
	if k.String() != "(private key)" || psk.String() != "(preshared key)" || k.GoString() != k.String() || psk.GoString() != psk.String() {
		t.Error("a secret prints itself")
	}
	public := k.Public()
	parsed, err := ParseKey(public.String())
	if err != nil || parsed != public {
		t.Errorf("%v, %v", parsed, err)
	}
	for _, bad := range []string{"", "AAAA", "not base64 at all", public.String()[:43]} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
}
