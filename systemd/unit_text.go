package systemd

// unitTemplate is the unit file, for systemd 252 (Debian 12) and newer: a key
// that 252 doesn't know would warn at every load there.
//
// What is missing on purpose: PrivateUsers=, in whose namespace the users of
// named ACL entries don't exist; ProcSubset=pid, which hides from hooks what
// many programs read at their start.
const unitTemplate = unitOrigin + ` Put changes into a drop-in
# ("systemctl edit {{.Name}}"), so that the next version doesn't overwrite them.
[Unit]
Description=rollcall, a machine-identity agent for Teleport{{if ne .Name "rollcall"}} ({{.Name}}){{end}}
Wants=network-online.target
After=network-online.target
# It's never given up: the cluster may be down for days.
StartLimitIntervalSec=0

[Service]
# Ready means: every output was tried once, and is in place or has told why not.
# A cluster that is down is no reason to fail.
Type=notify
NotifyAccess=main
User={{.User}}
Group={{.Group}}
ExecStart={{argument .Binary}} start -c {{argument .Config}}
# Renews everything now.
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=5s
# 1: the configuration is wrong; 3: the cluster refuses the bot. Trying again
# changes neither.
RestartPreventExitStatus=1 3
# Fed while all loops turn; a hung one has the agent restarted.
WatchdogSec=60s
TimeoutStartSec=90s
TimeoutStopSec=10s
KillMode=mixed
{{- if .Credential}}

# The join token. Once it's spent, its file may be deleted: the word "unset"
# means "as before".
LoadCredential={{.Credential}}:{{word .TokenFile}}
SetCredential={{.Credential}}:unset
{{- end}}

# What it may write.
{{- with .StateDirectory}}
StateDirectory={{word .}}
StateDirectoryMode=0700
{{- end}}
RuntimeDirectory={{.Name}}
{{- if .Passable}}
# Clients pass through it to a socket; its own rights say who may use that.
RuntimeDirectoryMode=0711
{{- else}}
RuntimeDirectoryMode=0700
{{- end}}
UMask=0077
ProtectSystem=strict
{{- range .Writable}}
ReadWritePaths={{word (print "-" .)}}
{{- end}}
{{- if .InHome}}
# Something that it uses is in a home directory.
ProtectHome=read-only
{{- else}}
ProtectHome=yes
{{- end}}
{{- if .InTmp}}
# Something that it uses is in /tmp.
PrivateTmp=no
{{- else}}
PrivateTmp=yes
{{- end}}

# What else it may do. Hooks live in here too.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
PrivateDevices=yes
DevicePolicy=closed
PrivateIPC=yes
KeyringMode=private
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# The group of a file may be changed to another of one's own.
SystemCallFilter=@chown
LimitCORE=0
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`
