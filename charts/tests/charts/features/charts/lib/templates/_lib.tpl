{{- define "lib.label" }}lib-{{ .Release.Service }}{{ end }}
