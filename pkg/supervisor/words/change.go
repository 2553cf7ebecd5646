package words

import (
	"fmt"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Change says a change in the words in which all tell it: the log, the events, the
// progress of a job.
func Change(v *service.View, c unit.Change) string {
	p := c.Proc
	switch c.Kind {
	case unit.Spawned:
		return fmt.Sprintf("starting a process of generation %d", p.Gen)
	case unit.Began:
		return fmt.Sprintf("started pid %d", p.PID)
	case unit.IsReady:
		return ready(v, c)
	case unit.HasBaked:
		return fmt.Sprintf("pid %d stayed ready for %s", p.PID, Short(Life(v, p).Bake))
	case unit.Switched:
		return fmt.Sprintf("switched to generation %d (pid %d)", p.Gen, p.PID)
	case unit.Mending:
		return fmt.Sprintf("pid %d holds a dead socket (%s): replacing it", p.PID, p.Ruined)
	case unit.Waits:
		return fmt.Sprintf("clients still wait in the queue of pid %d", p.PID)
	case unit.Leaving:
		return leaving(v, c)
	case unit.HasExited:
		return fmt.Sprintf("pid %d %s", p.PID, Ended(p.Exit))
	case unit.IsStuck:
		return "SIGKILL does not end " + strings.Join(survivors(v, p), ", ")
	case unit.IsGone:
		return gone(v, p)
	case unit.State:
		return fmt.Sprintf("%s (was %s)", c.To, c.From)
	case unit.Scheduled:
		return scheduled(v, c)
	case unit.Finished:
		return string(c.Finish.Result)
	}
	return string(c.Kind)
}

// scheduled says why as well where nothing else has: of what never ran nobody told how
// it ended.
func scheduled(v *service.View, c unit.Change) string {
	text := "restarts at once"
	if c.Due > v.At {
		text = "restarts in " + until(c.Due, v.At)
	}
	if last := v.State.Inst[c.Inst].Exit; last.Kind == unit.NotRun {
		text += ": " + Ended(last)
	}
	return text
}

func ready(v *service.View, c unit.Change) string {
	if l := Life(v, c.Proc); c.Role == unit.RoleNext || l.Type == unit.Exec {
		return fmt.Sprintf("ready, baking for %s", Short(l.Bake))
	}
	return "ready"
}

func gone(v *service.View, p unit.Proc) string {
	if p.PID == 0 {
		return "it never ran"
	}
	return fmt.Sprintf("pid %d is gone", p.PID)
}

// Begins says what a job brings.
func Begins(j unit.Job, current unit.Generation, size int) string {
	switch {
	case j.Verb == unit.Scale:
		return fmt.Sprintf("instances: %d", size)
	case j.Verb == unit.Stop, j.Verb == unit.End:
		return "stopping"
	case current == 0 || current == j.Gen:
		return fmt.Sprintf("generation %d", j.Gen)
	}
	return fmt.Sprintf("generation %d -> %d", current, j.Gen)
}

func leaving(v *service.View, c unit.Change) string {
	p, l := c.Proc, Life(v, c.Proc)
	who := fmt.Sprintf("pid %d", p.PID)
	switch {
	case p.PID == 0:
		return "told the process that was being started to go"
	case p.Exit.Kind != unit.NotExited:
		return "sent SIGKILL to anything that " + who + " left behind"
	}
	switch p.Phase {
	case unit.Settling:
		return who + " gets no new connections"
	case unit.Aborted:
		return fmt.Sprintf("sent SIGABRT to %s: it missed its watchdog", who)
	case unit.Told:
		return fmt.Sprintf("sent SIGKILL to %s: it did not end within timeout_stop_sec = %s", who, Short(l.Stop))
	}
	text := fmt.Sprintf("sent %s to %s", SignalName(int(l.KillSignal)), who)
	if c.Hung {
		text += ": it has taken nobody from its queue for " + Short(unit.HungAfter)
	}
	return text
}
