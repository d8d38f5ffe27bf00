const raw=JSON.parse(document.getElementById('state').textContent,(k,v)=>v&&v.$bytes!==undefined?new DataView(Uint8Array.from(atob(v.$bytes),c=>c.charCodeAt(0)).buffer):v);
const film=JSON.parse(document.getElementById('film').textContent),heard={};
const tell=(k,...a)=>(heard[k]??[]).forEach(f=>f(...a));
const model={get:k=>raw[k],set(k,v){raw[k]=v;tell('change:'+k)},save_changes(){},on(k,f){(heard[k]??=[]).push(f)},off(k,f){heard[k]=(heard[k]??[]).filter(g=>g!==f)},
send(m){const s=film.segments[m.segment];setTimeout(()=>{if(s)tell('msg:custom',{...m,kind:'piece',pieces:1,mime:film.mime},[new DataView(Uint8Array.from(atob(s),c=>c.charCodeAt(0)).buffer)])})}};
for(const k of ['query','layer','head','show'])model.on('change:'+k,()=>{const m=raw.maps[[raw.show,raw.query,raw.layer,raw.head].join('|')];if(m)model.set('map',m)});
mmemoPlayer.render({model,el:document.getElementById('player')});
