package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// offline marks commands that ask no supervisord.
var offline = map[string]string{"offline": "true"}

func helpCommand(*session) *cobra.Command {
	c := &cobra.Command{
		Use:         "help [COMMAND]",
		Short:       "explain a command",
		Annotations: offline,
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return commandNames(c.Root()), cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		about, rest, err := c.Root().Find(args)
		if err != nil || len(rest) > 0 {
			return unknownCommand(c.Root(), args)
		}
		about.InitDefaultHelpFlag()
		return about.Help()
	}
	return c
}

var shells = []string{"bash", "zsh", "fish", "powershell"}

func completionCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "completion SHELL",
		Short: "print the script that completes superctl's command lines",
		Long: `completion prints a script for bash, zsh, fish or powershell that completes
commands, flags, their values and the names of services.

	bash        source <(superctl completion bash)
	zsh         superctl completion zsh >"${fpath[1]}/_superctl"
	fish        superctl completion fish >~/.config/fish/completions/superctl.fish
	powershell  superctl completion powershell | Out-String | Invoke-Expression`,
		Annotations: offline,
		ValidArgs:   shells,
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return misuse(c, "completion needs the name of one shell: %s", alternatives(shells))
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		root, w := c.Root(), s.out
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(w, true)
		case "zsh":
			return root.GenZshCompletion(w)
		case "fish":
			return root.GenFishCompletion(w, true)
		case "powershell":
			return root.GenPowerShellCompletionWithDesc(w)
		}
		return misuse(c, "unknown shell %.40q: use %s", args[0], alternatives(shells))
	}
	return c
}

// versionFlag gives the root --version.
func versionFlag(root *cobra.Command) {
	root.Version = version()
	root.SetVersionTemplate("superctl " + strings.ReplaceAll(root.Version, "{{", "") + "\n")
	root.Flags().Bool("version", false, "print the version of superctl")
}
