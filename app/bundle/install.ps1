# Installs openchat-local @VERSION@ with its models and adapters. Needs no network.
#   powershell -ExecutionPolicy Bypass -File install.ps1 [FOLDER]
param([string]$Target = (Join-Path $HOME "@FOLDER@"))
$ErrorActionPreference = "Stop"
Set-Location $PSScriptRoot

Write-Host "Checking the files ..."
foreach ($line in Get-Content SHA256SUMS) {
    $sum, $file = $line -split "  ", 2
    if ((Get-FileHash -Algorithm SHA256 $file).Hash.ToLower() -ne $sum) {
        throw "$file is damaged: copy the bundle again."
    }
}

Write-Host "Installing into $Target ..."
py -@PYTHON@ -m venv --without-pip $Target
if ($LASTEXITCODE -ne 0) { throw "Python @PYTHON@ is missing." }
$python = Join-Path $Target "Scripts\python.exe"
$pip = (Get-Item wheels\pip-*.whl).FullName
& $python "$pip\pip" --isolated install --quiet --no-index --find-links wheels --disable-pip-version-check "@REQUIREMENT@"
if ($LASTEXITCODE -ne 0) { throw "The packages could not be installed." }
$program = Join-Path $Target "Scripts\openchat-local.exe"
& $program --version

function add_model($Name, $Quantisation, $File) {
    & $program models path "${Name}:$Quantisation" *> $null
    if ($LASTEXITCODE -ne 0) { & $program models add $File --name $Name }
}
function add_adapter($Name, $File) {
    & $program adapters add $File --name $Name --replace
}
@STEPS@
Write-Host "Done. Start it with: $program"
