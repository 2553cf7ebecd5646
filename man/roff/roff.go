// Package roff makes manual pages, see man(7), of Markdown as our generators write it:
// headings, paragraphs, tables, `code`, links and comments. A row of a table becomes an
// item: its first cell is what it is about, its last says it, and those between are
// named by the head of the table.
package roff

import (
	"fmt"
	"regexp"
	"strings"
)

// A Page is what stands before the text of a manual page.
type Page struct {
	Name    string // supervisord.toml
	Section int
	Says    string // what it is, in a few words
}

// date is not the day on which somebody generates the page.
const date = "Nov 2026"

// Of makes the page of a text. Its heading of the first level is left out.
func (p Page) Of(markdown string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %d \"%s\" supervisord supervisord\n.nh\n.ad l\n", strings.ToUpper(p.Name), p.Section, date)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", inline(p.Name), inline(p.Says))
	for block := range strings.SplitSeq(markdown, "\n\n") {
		b.WriteString(roff(strings.Trim(block, "\n")))
	}
	return b.String()
}

// roff is one block.
func roff(block string) string {
	heading, isHeading := strings.CutPrefix(block, "## ")
	switch {
	case block == "", strings.HasPrefix(block, "<!--"), strings.HasPrefix(block, "# "):
		return ""
	case isHeading && strings.HasPrefix(heading, "["):
		return ".SH " + inline(heading) + "\n" // a table of TOML, where case matters
	case isHeading:
		return ".SH " + inline(strings.ToUpper(heading)) + "\n"
	case strings.HasPrefix(block, "| "):
		return table(strings.Split(block, "\n"))
	case strings.HasPrefix(block, "    "):
		return ".PP\n.nf\n" + protected(escaped(indent.ReplaceAllString(block, ""))) + "\n.fi\n"
	}
	return ".PP\n" + inline(block) + "\n"
}

func table(lines []string) string {
	var b strings.Builder
	head := cells(lines[0])
	for _, line := range lines[2:] {
		row := cells(line)
		fmt.Fprintf(&b, ".TP\n%s\n%s\n", inline(row[0]), inline(row[len(row)-1]))
		for i := 1; i < len(row)-1; i++ {
			fmt.Fprintf(&b, ".br\n%s: %s\n", inline(head[i]), inline(row[i]))
		}
	}
	return b.String()
}

// cells are those of a row. One has a | in it as \|.
func cells(line string) []string {
	line = strings.ReplaceAll(line, `\|`, "\x00")
	row := strings.Split(strings.Trim(line, "| "), " | ")
	for i := range row {
		row[i] = strings.ReplaceAll(row[i], "\x00", "|")
	}
	return row
}

var indent = regexp.MustCompile(`(?m)^    `)

var link = regexp.MustCompile(`\[([^\]]*)\]\((https?://[^)]*)\)`)

// inline has code in bold.
func inline(text string) string {
	text = link.ReplaceAllString(text, "$1 ($2)")
	parts := strings.Split(escaped(text), "`")
	var b strings.Builder
	for i, part := range parts {
		switch {
		case i%2 == 0:
			b.WriteString(part)
		case part != "":
			b.WriteString(`\fB` + part + `\fP`)
		}
	}
	return protected(b.String())
}

// escaped has nothing in it that roff would obey, but for the first character of a line.
func escaped(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "…", `\&...`).Replace(text)
}

// protected has no line that begins as a request does.
func protected(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
