package gauntlet

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/supervisord-go/supervisord/bench/load"
	"github.com/supervisord-go/supervisord/bench/rig"
)

// A Way is one of the ways to replace a running build by another.
type Way struct {
	Name   string  `json:"way"`
	Report *Report `json:"report,omitempty"` // nil: left out
	Why    string  `json:"why,omitempty"`    // it was left out
	Grown  int64   `json:"grown_kib"`        // the process, by a reload; 0: it is another process
}

// Compare goes each way with the same clients and as many reloads, one of which in
// ten is of a build that exits at its start; one more mends that. None of it is
// judged.
func (k *Kit) Compare(ctx context.Context, o Options) ([]Way, error) {
	o.Modes, _ = Parse("new,keepalive-post,in-flight")
	o.Broken, o.Bad, o.Rounds = []string{"exits-at-start"}, 0.1, 0
	o.Reloads++
	o = o.Fill()
	ways := []struct {
		name   string
		change func(*Options)
	}{
		{"stop and start, a socket of its own", func(o *Options) { o.Worker, o.Restart, o.Own = "stock", true, true }},
		{"stop and start, supervisord's socket", func(o *Options) { o.Worker, o.Restart = "stock", true }},
		{"reload, Shutdown at once", func(o *Options) { o.Worker = "stock" }},
		{"reload, pkg/worker", func(o *Options) { o.Worker = "library" }},
		{"reload, pkg/worker, steered, with handover", func(o *Options) { o.Worker, o.Steer, o.Handover = "library", true, true }},
	}
	var all []Way
	for _, w := range ways {
		o.Say("%s", w.name)
		changed := o
		w.change(&changed)
		r, err := k.Run(ctx, changed)
		if err != nil {
			return nil, err
		}
		all = append(all, Way{Name: w.name, Report: r})
	}
	swapped, err := k.swap(ctx, o)
	return append(all, swapped), err
}

// swap exchanges a plugin in the process that runs. If that ends by it, it is
// started again with the last good plugin.
func (k *Kit) swap(ctx context.Context, o Options) (w Way, err error) {
	w = Way{Name: "a plugin swapped in the process"}
	if !rig.HasCompiler() {
		w.Why = "there is no gcc, which package plugin needs"
		return w, nil
	}
	o.Say("%s; building %d of them, which takes minutes the first time", w.Name, o.Reloads+1)
	s := &swapper{Options: o, dir: mkdir(k.dir, "plugins"), report: newReport(o)}
	if s.host, s.plugins, err = rig.BuildPlugins(ctx, s.dir, o.Reloads+1); err != nil {
		return w, err
	}
	w.Report = s.report
	w.Grown, err = s.run(ctx)
	return w, err
}

// PrintWays writes a comparison for people.
func PrintWays(out io.Writer, ways []Way) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\treloads\trequests\tlost\treconnects\treload p50\tp99 steady\tp99 reload\tlongest\tgrown\t\n")
	for _, w := range ways {
		if w.Report == nil {
			fmt.Fprintf(t, "%s\tleft out: %s\t\n", w.Name, w.Why)
			continue
		}
		s := load.Sum("", w.Report.Modes...)
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", w.Name, w.Report.Reloads, s.Attempts, s.Failed, s.Reconnects,
			inMS(w.Report.GoodTook.Quantile(0.5)), inMS(s.Steady.Quantile(0.99)), inMS(s.Reload.Quantile(0.99)), inMS(s.Latency().Max()),
			grown(w.Grown), counted(s.Failures))
	}
	t.Flush()
}

func inMS(d time.Duration) string { return ms(d.Microseconds()) }

func grown(kib int64) string {
	if kib == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fM", float64(kib)/1024)
}
