package roff

import "testing"

func TestAPage(t *testing.T) {
	got := Page{Name: "a.toml", Section: 5, Says: "what it is"}.Of("# A\n\n<!-- made -->\n\nSee [TOML](https://toml.io) and `a-b`.\n.so /etc/passwd\n\n## Keys\n\n" +
		"| key | value | meaning |\n|---|---|---|\n| `x` | one \\| two | It's `\\n`. |\n\n    indented\n\n## [service.NAME]\n")
	want := ".TH A.TOML 5 \"Nov 2026\" supervisord supervisord\n.nh\n.ad l\n.SH NAME\na.toml \\- what it is\n" +
		".PP\nSee TOML (https://toml.io) and \\fBa\\-b\\fP.\n\\&.so /etc/passwd\n.SH KEYS\n" +
		".TP\n\\fBx\\fP\nIt\\(aqs \\fB\\en\\fP.\n.br\nvalue: one | two\n.PP\n.nf\nindented\n.fi\n.SH [service.NAME]\n"
	if got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
}
