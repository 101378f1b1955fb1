{{- define "features.name" -}}{{ .Release.Name }}-{{ .Chart.Name }}{{- end -}}
{{- define "shared" }}from features{{ end }}
