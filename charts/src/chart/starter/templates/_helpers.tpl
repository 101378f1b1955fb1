{{/* The name of the release's objects. */}}
{{- define "CHARTNAME.name" -}}
{{- if contains "CHARTNAME" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-CHARTNAME" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are found by. It must never change. */}}
{{- define "CHARTNAME.selector" -}}
app.kubernetes.io/name: CHARTNAME
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The labels of every object. */}}
{{- define "CHARTNAME.labels" -}}
{{ include "CHARTNAME.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}
