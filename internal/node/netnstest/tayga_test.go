package netnstest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firelane/firelane/packet"
)

// TestTranslationEqualsTayga gives the same packets to the translator of package packet and to
// Debian's tayga, another stateless translator, in both directions and under prefixes of all lengths
// of RFC 6052, and compares what they make of them byte by byte. Where they differ, one of
// taygaDifferences has to say so beforehand, and each of those has to be seen.
func TestTranslationEqualsTayga(t *testing.T) {
	tally := &tally{seen: map[string]int{}}
	for i, prefix := range []string{
		// The examples of RFC 6052, section 2.4, and the well-known prefix.
		"2001:db8:122:344::/96", "2001:db8::/32", "2001:db8:100::/40", "2001:db8:122::/48",
		"2001:db8:122:300::/56", "2001:db8:122:344::/64", "64:ff9b::/96",
	} {
		t.Run(prefix, func(t *testing.T) {
			w := newWorld(t, netip.MustParsePrefix(prefix))
			d := startTayga(t, w)
			g := &samples{world: w, Rand: rand.New(rand.NewPCG(7915, uint64(i)))}
			n := 2000
			if i == 0 {
				n = 12000
			}
			for range n {
				s := g.next()
				if complaint := tally.compare(w, s, d.exchange(t, s.bytes())); complaint != "" {
					t.Errorf("%s\n%v\nin    %.400x", complaint, s, s.bytes())
					if tally.complaints++; tally.complaints == 10 {
						t.Fatal("too many differences")
					}
				}
			}
		})
	}
	for _, d := range taygaDifferences {
		t.Logf("%6d  %s", tally.seen[d.name], d.name)
		if tally.seen[d.name] == 0 {
			t.Errorf("never seen: %s", d.name)
		}
	}
	t.Logf("%6d  equal but for what all differ in", tally.equal)
	t.Logf("%6d  dropped by both", tally.dropped)
	if tally.equal < 1000 || tally.dropped == 0 {
		t.Error("too few packets were comparable")
	}
}

// TestTaygaDifferencesAreDocumented keeps the table in the documentation equal to the list.
func TestTaygaDifferencesAreDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "conformance", "tayga.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, d := range taygaDifferences {
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", d.name, d.section, d.ours, d.tayga)
	}
	var got strings.Builder
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| difference |") {
			got.WriteString(line)
		}
	}
	if got.String() != want.String() {
		t.Errorf("the rows of the table are not those of the list, which are\n%s", &want)
	}
}

// tally counts what a comparison has found.
type tally struct {
	seen                       map[string]int // by difference
	equal, dropped, complaints int
}

// compare judges what tayga made of s and returns a complaint if no difference explains it.
func (y *tally) compare(w *world, s *sample, theirs [][]byte) string {
	ours := w.translate(s)
	var lacks []*difference // why one of the two makes nothing
	for i := range taygaDifferences {
		d := &taygaDifferences[i]
		if d.only != either && d.applies(w, s) {
			lacks = append(lacks, d)
		}
	}
	explained := func(by side) bool {
		for _, d := range lacks {
			if d.only == by {
				y.seen[d.name]++
				return true
			}
		}
		return false
	}
	theirs, answers := split(theirs, s.v6)
	defer w.noteTooBig(s, theirs)
	if answers != nil && !s.mayBeAnswered(w) {
		return fmt.Sprintf("tayga answers with %x", answers)
	}
	switch {
	case len(ours) == 0 && len(theirs) == 0:
		y.dropped++
	case len(theirs) == 0:
		if !explained(onlyOurs) {
			return fmt.Sprintf("only ours translates, into %.100x", ours)
		}
	case len(ours) == 0:
		if !explained(onlyTayga) {
			return fmt.Sprintf("only tayga translates, into %.100x", theirs)
		}
	case len(lacks) > 0:
		return fmt.Sprintf("both translate, other than %q has it", lacks[0].name)
	default:
		return y.compareBytes(w, s, ours, theirs)
	}
	return ""
}

// compareBytes brings all differences of content to bear on our packets and compares.
func (y *tally) compareBytes(w *world, s *sample, ours, theirs [][]byte) string {
	special, as := false, s
	for i := range taygaDifferences {
		if d := &taygaDifferences[i]; d.before != nil && d.applies(w, s) {
			as = d.before(as)
			y.seen[d.name]++
			special = true
		}
	}
	if special {
		ours = w.translate(as)
	}
	for i := range taygaDifferences {
		d := &taygaDifferences[i]
		if d.after == nil || !d.applies(w, s) {
			continue
		}
		changed := false
		for i, b := range ours[:min(len(ours), len(theirs))] {
			was := bytes.Clone(b)
			d.after(w, s, b, theirs[i])
			changed = changed || !bytes.Equal(was, b)
		}
		if changed {
			y.seen[d.name]++
			special = special || !d.always
		}
	}
	if len(ours) != len(theirs) {
		return fmt.Sprintf("ours makes %d packets, tayga %d\nours  %x\ntayga %x", len(ours), len(theirs), ours, theirs)
	}
	for i := range ours {
		if !bytes.Equal(ours[i], theirs[i]) {
			return fmt.Sprintf("packet %d differs\nours  %.400x\ntayga %.400x", i, ours[i], theirs[i])
		}
	}
	if !special {
		y.equal++
	}
	return ""
}

// split tells translations of packets, which are of the other IP version, from answers to them.
func split(packets [][]byte, v6 bool) (translations, answers [][]byte) {
	for _, b := range packets {
		if (b[0]>>4 == 6) == v6 {
			answers = append(answers, b)
		} else {
			translations = append(translations, b)
		}
	}
	return translations, answers
}

// world is the address plan both translators have: hosts with an address of either version, and
// a prefix for everybody else of IPv4.
type world struct {
	prefix     packet.Prefix64
	hosts4     []netip.Addr
	hosts6     []netip.Addr
	own4, own6 netip.Addr // of tayga itself
	peers      []netip.Addr
	// Peers that the well-known prefix may not stand for: private, and shared (RFC 6598).
	local, shared netip.Addr
	router6       netip.Addr // of IPv6, without an address in IPv4
	mtu, limit    int        // of the device, and up to which packets that may be fragmented are not
	id, outerID   uint16
	wellKnown     bool
	tooBig        map[netip.Addr]told // what tayga remembers
	suffixExists  bool
}

func newWorld(t *testing.T, prefix netip.Prefix) *world {
	t.Helper()
	x, err := packet.NewPrefix64(prefix)
	if err != nil {
		t.Fatal(err)
	}
	addrs := func(s string) (a []netip.Addr) {
		for f := range strings.FieldsSeq(s) {
			a = append(a, netip.MustParseAddr(f))
		}
		return a
	}
	return &world{
		prefix:       x,
		hosts4:       addrs("192.0.2.33 192.0.2.34 10.11.12.13"),
		hosts6:       addrs("fd00:64::33 fd00:64:ffff:ffff:ffff:ffff:ffff:ffff fd00:64::a:b"),
		own4:         netip.MustParseAddr("192.0.2.1"),
		own6:         netip.MustParseAddr("fd00:64::1"),
		peers:        addrs("1.2.3.4 8.9.10.11 185.1.255.254 223.255.255.255"),
		local:        netip.MustParseAddr("192.168.7.9"),
		shared:       netip.MustParseAddr("100.64.9.9"),
		router6:      netip.MustParseAddr("fd00:65::1"),
		mtu:          1500,
		limit:        1280,
		id:           0x1f2e,
		outerID:      0x3d4c,
		tooBig:       map[netip.Addr]told{},
		wellKnown:    prefix == packet.WellKnownPrefix64,
		suffixExists: prefix.Bits() < 96,
	}
}

// other returns the address of the other IP version that stands for a.
func (w *world) other(a netip.Addr) (netip.Addr, bool) {
	from, to := w.hosts4, w.hosts6
	if a.Is6() {
		from, to = to, from
	}
	for i := range from {
		if from[i] == a {
			return to[i], true
		}
	}
	if a.Is4() {
		return w.prefix.Embed(a), w.prefix.Represents(a)
	}
	v4, ok := w.prefix.Extract(a)
	return v4, ok && w.prefix.Represents(v4)
}

// translate is our side: it does what a caller of package packet does.
func (w *world) translate(s *sample) [][]byte {
	b := s.bytes()
	var info packet.Info
	if !packet.Parse(b, &info) {
		return nil
	}
	if packet.IsError(&info) {
		return w.translateError(b, &info)
	}
	src, okSrc := w.other(info.Src)
	dst, okDst := w.other(info.Dst)
	if !okSrc || !okDst {
		return nil
	}
	r := packet.NewRewrite(&info, src, dst, info.SrcPort, info.DstPort)
	room := make([]byte, packet.MaxTranslatedHeaders)
	headers, payload, ok := r.Translate(room, b, &info, false, 0, w.id)
	if !ok {
		return nil
	}
	room, b = room[:headers], b[payload:info.Len]
	if !packet.MayFragment(s.bytes(), &info) || headers+len(b) <= w.limit {
		return [][]byte{append(room, b...)}
	}
	var out [][]byte
	for from := 0; ; {
		f := make([]byte, w.limit)
		n, next := packet.CutFragment(f, room, b, from, w.limit, uint16(s.id))
		out = append(out, f[:n])
		if from = next; from == 0 {
			return out
		}
	}
}

func (w *world) translateError(b []byte, info *packet.Info) [][]byte {
	var quoted packet.Info
	if !packet.ParseQuote(b, info, &quoted) {
		return nil
	}
	src, okSrc := w.other(quoted.Src)
	dst, okDst := w.other(quoted.Dst)
	router, mapped := w.other(info.Src)
	if !mapped { // RFC 6791
		router = w.own6
		if info.Version == 6 {
			router = w.own4
		}
	}
	to, okTo := w.other(info.Dst)
	if !okSrc || !okDst || !okTo {
		return nil
	}
	r := packet.NewRewrite(&quoted, src, dst, quoted.SrcPort, quoted.DstPort)
	outer := packet.ErrorHeader{Src: router, Dst: to, MTU4: w.mtu, MTU6: w.mtu, ID: w.outerID}
	out := make([]byte, packet.MaxTranslatedError)
	n, ok := r.TranslateError(out, b, info, &quoted, &outer)
	if !ok {
		return nil
	}
	return [][]byte{out[:n]}
}
