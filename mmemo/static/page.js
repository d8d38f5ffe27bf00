const dark=matchMedia('(prefers-color-scheme: dark)');
const templates=JSON.parse(document.getElementById('templates').textContent);
function draw(){for(const s of document.querySelectorAll('script.data')){const f=JSON.parse(s.textContent);f.layout.template=templates[dark.matches?'dark':'light'];
Plotly.react(document.getElementById(s.dataset.at),f.data,f.layout,{responsive:true,displaylogo:false,displayModeBar:false})}}
draw();dark.addEventListener('change',draw);
