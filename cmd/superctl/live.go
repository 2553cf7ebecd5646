package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Progress is a line for each thing that happens, with the time since the job
// was asked for. On a terminal there are lines below it that come and go: what
// each unit waits for. In a pipe such a line is written when its reason changes, and
// not each second with another time in it.

// progress shows the course of jobs.
type progress struct {
	c     *console
	quiet bool
	names int // columns of the longest name, if there is more than one unit
	begun time.Time

	told    map[*task]bool      // something was shown of it
	passing int                 // lines at the end that will be taken back
	said    map[*task]string    // in a pipe: the last reason written
	held    map[*task]ipc.Event // an end that the next event may tell better
}

func newProgress(s *session, tasks []*task) *progress {
	p := &progress{c: s.out, quiet: s.json, begun: time.Now(), said: map[*task]string{}, held: map[*task]ipc.Event{}, told: map[*task]bool{}}
	if len(tasks) > 1 {
		for _, t := range tasks {
			if t.over {
				continue
			}
			p.names = max(p.names, width(t.unit))
		}
	}
	return p
}

// skipped are changes that are true but tell a user nothing.
var skipped = []unit.ChangeKind{unit.Spawned, unit.State, unit.IsGone}

// step shows one event.
func (p *progress) step(t *task, e ipc.Event) {
	if p.quiet || slices.Contains(skipped, e.Kind) {
		return
	}
	p.clear()
	p.release(t, e)
	switch {
	case e.Kind == ipc.Restarted:
		p.line(t, e, plain, "…", e.Text)
	case e.Type == "lost":
		p.line(t, e, plain, "…", fmt.Sprintf("%d events are missing here", e.Lost))
	case e.Kind == unit.HasExited && t.job.Verb != unit.Stop.String():
		p.held[t] = e
	case e.Kind == unit.Begun && p.names == 0:
		p.told[t] = true
		p.c.print("%s  %s\n", p.c.paint(strong, t.unit), e.Text)
	case e.Kind == unit.Finished:
		p.finished(t, e)
	default:
		word, rest, _ := strings.Cut(e.Text, " ")
		p.line(t, e, styleOf(e.Kind), word, rest)
	}
}

// release shows an end that was held back, unless e says the same with what it
// means: that the job has failed.
func (p *progress) release(t *task, e ipc.Event) {
	end, ok := p.held[t]
	if !ok {
		return
	}
	delete(p.held, t)
	_, how, _ := strings.Cut(end.Text, " "+fmt.Sprint(end.PID)+" ")
	if e.Error != nil && how != "" && strings.Contains(e.Error.Message, how) {
		return
	}
	p.line(t, end, plain, "pid", strings.TrimPrefix(end.Text, "pid "))
}

// finished is silent about success: the line before has said it. Of what never
// began the error says all.
func (p *progress) finished(t *task, e ipc.Event) {
	if e.Error == nil || !p.told[t] {
		return
	}
	p.line(t, e, bad, string(e.State), " "+reason(e.Error.Message))
	for _, l := range e.Error.Output {
		p.c.print("%s        %s\n", p.indent(t), p.c.paint(faint, l))
	}
}

// known is the beginning of a message that repeats what stands above it: what
// was asked for, and which process was started for it.
var known = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^cannot [a-z-]+ [A-Za-z0-9_.-]+: ((new )?process [0-9]+ )?`)
})

func reason(message string) string { return known().ReplaceAllString(message, "") }

func styleOf(k unit.ChangeKind) style {
	switch k {
	case unit.Switched, unit.IsReady, unit.HasBaked:
		return good
	case unit.IsStuck:
		return bad
	case unit.Scheduled, unit.Queued:
		return moving
	}
	return plain
}

// textWidth is where the time begins, if there is room.
const textWidth = 57

func (p *progress) line(t *task, e ipc.Event, look style, word, rest string) {
	p.told[t] = true
	text := string(p.indent(t)) + string(p.c.paint(look, word))
	if rest != "" {
		text += " " + printable(rest)
	}
	if at := elapsed(t, e); at != "" {
		text = pad(text, textWidth-2) + "  " + string(p.c.paint(faint, at))
	}
	p.c.print("%s\n", painted(text))
}

func (p *progress) indent(t *task) painted {
	if p.names == 0 {
		return "  "
	}
	return painted(pad(string(p.c.paint(strong, t.unit)), p.names) + "  ")
}

// elapsed is the time since the job was asked for, by supervisord's clock.
func elapsed(t *task, e ipc.Event) string {
	if e.Time == nil || t.job.Asked.IsZero() {
		return ""
	}
	d := max(0, e.Time.Sub(t.job.Asked))
	if d >= 100*time.Second {
		return short(d)
	}
	return fmt.Sprintf("%.2fs", d.Seconds())
}

// wait shows what units wait for.
func (p *progress) wait(why map[*task][]string) {
	if p.quiet {
		return
	}
	for t := range why {
		p.release(t, ipc.Event{})
	}
	if !p.c.terminal {
		p.mention(why)
		return
	}
	p.clear()
	for _, t := range inOrder(why) {
		for _, w := range why[t] {
			text := cut(string(p.indent(t))+printable(w), p.c.width-1)
			p.c.print("%s\n", p.c.paint(faint, text))
			p.passing++
		}
	}
}

// lengths of time: what waits for another process waits for something else.
var lengths = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[0-9.]+(ns|µs|ms|s|min|m|h|d|w|y)`) })

// mention writes a reason once, also if something happens meanwhile that does not
// change it.
func (p *progress) mention(why map[*task][]string) {
	for _, t := range inOrder(why) {
		text := strings.Join(why[t], "; ")
		same := lengths().ReplaceAllString(text, "")
		if text == "" || p.said[t] == same {
			continue
		}
		p.said[t] = same
		p.c.print("%s%s\n", p.indent(t), text)
	}
}

func inOrder(why map[*task][]string) []*task {
	return slices.SortedFunc(maps.Keys(why), func(a, b *task) int { return strings.Compare(a.unit, b.unit) })
}

// clear takes the passing lines back.
func (p *progress) clear() {
	if p.passing > 0 {
		p.c.print("\x1b[%dA\x1b[J", p.passing)
		p.passing = 0
	}
}
