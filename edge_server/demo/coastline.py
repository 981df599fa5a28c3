"""The outlines of the continents and where some cities are: enough for a small map.

Made from Natural Earth's 1:110m countries and cities (naturalearthdata.com, public
domain): countries dissolved, simplified to a fifth of a degree, small islands left out.
Holds data and no I/O.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import TypeAlias

Ring: TypeAlias = list[tuple[float, float]]


def rings() -> list[Ring]:
    """Return the closed outlines of all land in degrees (longitude, latitude).

    The last point joins the first. Outer rings run clockwise on a map with north above,
    a hole anticlockwise and directly after the ring that it is in.
    """
    numbers = _signed_varints(zlib.decompress(base64.b85decode(_LAND)))
    found = []
    for count in numbers:
        x = y = 0
        ring = []
        for _ in range(count):
            x += next(numbers)
            y += next(numbers)
            ring.append((x / 10, y / 10))
        found.append(ring)
    return found


def _signed_varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield (value >> 1) ^ -(value & 1)
            value = shift = 0


CITIES: tuple[tuple[str, float, float], ...] = (  # name, longitude, latitude in degrees
    ("Accra", -0.22, 5.55),
    ("Addis Ababa", 38.7, 9.04),
    ("Ankara", 32.86, 39.93),
    ("Antananarivo", 47.51, -18.91),
    ("Athens", 23.73, 37.99),
    ("Baghdad", 44.39, 33.34),
    ("Bangkok", 100.51, 13.75),
    ("Beijing", 116.39, 39.9),
    ("Berlin", 13.4, 52.52),
    ("Bogota", -74.09, 4.6),
    ("Brasília", -47.92, -15.78),
    ("Buenos Aires", -58.43, -34.61),
    ("Cairo", 31.25, 30.05),
    ("Canberra", 149.13, -35.28),
    ("Cape Town", 18.43, -33.92),
    ("Caracas", -66.92, 10.5),
    ("Casablanca", -7.62, 33.6),
    ("Chicago", -87.64, 41.85),
    ("Colombo", 79.86, 6.93),
    ("Dakar", -17.48, 14.72),
    ("Dhaka", 90.41, 23.73),
    ("Dublin", -6.26, 53.35),
    ("Hanoi", 105.85, 21.04),
    ("Havana", -82.37, 23.13),
    ("Helsinki", 24.93, 60.16),
    ("Hong Kong", 114.18, 22.31),
    ("Jakarta", 106.83, -6.17),
    ("Johannesburg", 28.03, -26.17),
    ("Kabul", 69.18, 34.52),
    ("Khartoum", 32.53, 15.59),
    ("Kinshasa", 15.31, -4.33),
    ("Kyiv", 30.51, 50.44),
    ("Lagos", 3.39, 6.45),
    ("Lima", -77.05, -12.05),
    ("Lisbon", -9.15, 38.72),
    ("London", -0.12, 51.5),
    ("Los Angeles", -118.23, 34.05),
    ("Luanda", 13.23, -8.84),
    ("Madrid", -3.69, 40.4),
    ("Manila", 120.98, 14.61),
    ("Mexico City", -99.13, 19.44),
    ("Moscow", 37.61, 55.75),
    ("Mumbai", 72.88, 19.07),
    ("Nairobi", 36.81, -1.28),
    ("New Delhi", 77.2, 28.6),
    ("New York", -74.0, 40.72),
    ("Oslo", 10.75, 59.92),
    ("Ottawa", -75.7, 45.42),
    ("Paris", 2.35, 48.86),
    ("Port Moresby", 147.19, -9.46),
    ("Rabat", -6.84, 34.03),
    ("Reykjavík", -21.94, 64.14),
    ("Rio de Janeiro", -43.21, -22.91),
    ("Riyadh", 46.72, 24.63),
    ("Rome", 12.48, 41.9),
    ("Santiago", -70.65, -33.44),
    ("Seoul", 127.0, 37.57),
    ("Shanghai", 121.43, 31.22),
    ("Singapore", 103.85, 1.29),
    ("Stockholm", 18.07, 59.32),
    ("Suva", 178.44, -18.13),
    ("Sydney", 151.21, -33.87),
    ("São Paulo", -46.63, -23.56),
    ("Tashkent", 69.27, 41.3),
    ("Tehran", 51.42, 35.67),
    ("Tokyo", 139.75, 35.69),
    ("Toronto", -79.39, 43.66),
    ("Ulaanbaatar", 106.91, 47.92),
    ("Vienna", 16.36, 48.2),
    ("Warsaw", 21.01, 52.23),
    ("Wellington", 174.78, -41.29),
)

# zlib, in base 85, of zigzag varints: per ring its count of points, then per point the steps
# in longitude and latitude, in tenths of a degree, from the point before (first from 0, 0).
_LAND = (
    "c-j@03yh_8dB*?u`|Z1b-#Ono=R21<bKRNQot@eHEUdfB?g9%aDj=n{67gQO+8WbBr43P|TvKYb#(O2LHcAX4g11x}wV|4jN-b4N"
    "8e$tul$dB5YWtsLl1b)r&UfDTeV*s{nC~>7GDghtL^HVn)qUAFH4z7RO$J*0B700bcF-;m@xT6~`YpidSAl!Q2hANYX$eVOV}<8f"
    "LTot1q971!22GJt0;Ogk#fXr_nLwCjaNDg;8nd8Z))j6f7CWpMLaA*xHWL9t5wO!BE3>tcL8IL>>4u6w)SQ}y9_$^OC?L`%pPsJr"
    "Wdlu?`>rZ+DixW~V0Lh;dx#9VN*I&fp>`^CicF<&s2orON7E|kbU(VZw{80HL|R~C&wH#?o-@o|vgml?mo4Q3N#$)LNOpTQI@+0D"
    "A8M`@rCg0TO0{V4z(He$Fl9M}K@1rdk~py_S5cph^K)qmuv`J>=Y3(+4AhFLTwI}sW{87aK@fNN9lS^Ggw2W@!d>UMBTTJltwX+3"
    "HN5CIVNdqu44-4UE>$LsSV1#iq6yzc*rcT6ATc2TmG8?@S-T$G93^s&LDmbkr8c#*4wXl7Pa^5HlTa?$J}lT^TE*|4LtWr~3*5tE"
    "h|_UP{$Ozj!h~h67-oT~QVy-@#H5AJhAPyh-*jw;r(`8zd<NKZii2)VH@xIhZr6%+Eqp0a)wg3>CAR@@8@{zKkgm59hA5SZj{B1n"
    "l9$LD{>oA1ErRJRY-2=E6jEc)qyUgH4C#401IrlWctzHFZA9TK;-tU<Wf~c3Hmu!lR+mA)K0(JGNLMWpleL^=vI!@#NH82gYgWOb"
    "zE9XdkMM$<_NFBk{J1khO-?Cd<7+}*Ndgz84tSS!mSp;5w;Zp`9nQ)?YNLjzs~x3ULY7G>yZ|ilvKCMX!K{PMFQJ|`Y7=?Ncz{77"
    "Z$Pe%1+w+Kxa4&eZ+f4?$a>G{41z3}qlwa3*K96_;PAqdRZ~8`>>B;sa-20VOC;7?{MaDLK*I-C7SmBRSS@seMnW4XdkMCVLzy%K"
    "c><CJO$(d|PEqEl5=@U1K1hJq)aEwFJgKy<8qW%+`>4@48L^F8pA&f*1}qJ1Qd6~L8ErH%r<CC<0?lrsLl$6ddf|^?huh3RaeZ7p"
    "VrOn0ltRe7Tf&M<tx(B`n$!j|fk;p&l$?pr*Z1Qxi64WgAJz}XnM1$<X6`fDce#XP(c}f8;h;3%$sZB42tE^84>0qq>b<h$iOjfU"
    "SczXW4@tx|Zj^Y;JR=R}I_m8%`>b@L1(h}b*?UpeaK=5YL;{CDG4EGMIus>L2Slrlf|~{gr6vxL=nwNx^}nWe@KTb=Q9N``k2$PX"
    "fn-EfSV_&n)vujG?Wp*bdrnz;#&quJSHs`wbbL00d;|@r{4#Y9v|6o_D!f{}5lOKoPO@RSV{$C{I_t?=r931`*gQqzuJ*keg>_o+"
    "^1uC~x)jF&qlp}HoNUpPC16Xi{7Cw^F8TSav4C&I8{21=W|=un+&%7befdIxbd-4XCnCNQz7Y>K(F3Rc$vv$#-(pI&Z1U~!b4{d{"
    "@6>}h<`wl$(B>&S%x7`}`)Ml5c&6=_-BVhYnK-G0cr8z(lg;EOA<8-9%kqyw_@e)f4qP@PSP-B_06O!R*$euL_9%kZ^H*y219!LC"
    "58_h)Jo%8Jbb<C+5b9U%;|9|Kjq(lVvGAa|NtVf*Rn96R?nypvDm((Y8vdJm(r~gK#d3-VUGtOKm7owvI5q|2&^q&Z^=)$<?1h}`"
    "?BytYhTmrnTQj%|X6FSF$IW`zenQ`+#YCwTbt92TzmGORiGA^{ftZ=zzp9UjwAx9e%%Bv7EzpU4V{)zubuQ9>kRKGa3)F}-Zm~}#"
    "^ZfhzWAM7yoTg>d!>%#X!8R%5ygG2yrzmxS<!Nv;!(6UJ^t}o0sn(cTn#YSWauZ%?uRyt2fu(R5$Pm*_%6Ly0COUeq0mfeNDmh)G"
    "4hJS$(_+Ral+hm8w6#f*!%Py<QKyExD9VtrKCyZLy($pq7H6ga%}@oc%5)fKHHVw&1ng!jF-~y#TL&EpL5en-(lr^-LyY-`)r5$G"
    ")rOK00Z|s!$U|Hug~(EhaRsY{x(Zb>V<pr;DvU$HaUM-HAxvs05(~W0!|@yqwK-CIN01B}QBI@Oee^jHR~_@#mp;U6rubkJl^K7-"
    "^`0xmn2FIMN}EsXfg05`Z`4M!zy>tFwQX=Q7V&bUug9-_AoCLGbOWH)3b%r1T(sfcTp6-7?FIt69+_ZTrhMJ8bj_s0&8Rb{>=5L_"
    "tQhJIuQHO981hba_H4N#NmK;xlu1R{d%l)J8$smY-j-CRZn2}3<UAGT;v9;;8q>@YeP-<YlPakSOvgH@koFZ=IIGQK)sOCDPp4)l"
    "o#(GOb=}gM>fkV3AiK7qrOw$z@8BCpz;65NgT<XigB6K{R*r4zz_eS>XWTfil(FtGRl0&88causd21VBrfcX}9JDBPZ3?5rae8x9"
    "cM&Qigf3^POC8z4L?_-*W^upN(k}E%I5bQJC6#dTQdG#BFmrJ*NNJwskh_Uk0W+BdSl&v!sm<FRV`uT2nZr8W6cgH~>yXHc<amPR"
    "^~GMQE4!jD!9-pQk-Gppt>Tty-|;-}_=L@=BNOP;R(%QDR3G&3LV-hH)AvI%OKRqw60gIrNWfK%Y|zpO+bKDp9BVl5yDcxHTKk0B"
    "DnmT(svq6d3qIDo7+_lTlm2z8O$`toJG(Xup{;;UwhG_d;`>Lzo~OVKNF$G-OX&yU%R8uaj*Ti|TcE^e^3cNarAPW&1FiP;DFt@5"
    "fI1@66jWSpS=5txAT~(Cu@=gp5KS;s3X5R0TFkV~fRrXWE8u~auH#7e>B2adlkJ$IarlPvk%k+W9U8|MmYiw15g%Ow>X_)WY34Jm"
    "CmX}QSb*cJPVnd#-guOBiAVqm34n#)2Yj@Q>462I(Xty@xZG6-U_F{+jg33b4JsqDo|;w_V?CVunlK%oIa^5p&Kd&g0tQ~{zCN-a"
    "@C6$!Z<!}xtm7bKpirMAX|m~CIZxW;4Si`*Qwu@aLYWPJhhAfNWWcFD+4k3Dlmq24l=ih5^sb1I6J0^*HMF@72ExvD*)$6l!=|9r"
    "W)$!v9{a5%u_vsK)|4Cs-FT-6HU~XjW=8j>2V|64w%~(pC+E9W?AyY;B-QEi)n@?Lw5=4p9d@8Ux_r7-G-tL3i%nw3oXaRQL-Dw`"
    "k6mfw{+5%i)p%SZxOim5BwyY*v@qT%PJ&}e<>ZhN;Evsx+`Rv4+@_b5L)7y_W}0&+F6P%ZlPx(~8i5f%QEjPH&+yN&Kz)Qeidog!"
    "As#X`_kuYKNSf0iveIMd>7-)WFoz&a02ofmvX(l*S(YZyiXX_QU_ihZK-_0uK%LHT5kW+~fQHdW`*7*Y`c8ZbBW?hoDd)T)G7_ux"
    "R9G^I?FWeo7G%#lXWuhV;GWIVtVtu?4!P%tfKwUM>6su%h8mxMNvS?!evM<4^(oY8eAB-oA^IdV;&07|NDTlku=zjvxfs|JobW2H"
    "ck|!H&v=Ytx=v~IX;n#IL=3~I@_O$L$gv32MsN~L-Z|4_{i%4LdX9Iv)KixK;RC`a(@2G(l=(`XqCC3G<P+#Yg>7jYdwFtA>@2Hl"
    "Mk4JK<2p37L(`+tU4NqgUQKC)w3uRnzUe;m1${0<a?WzQ$!E<}Ui8DP1Kf_QLu~`0KHQj$+VlB=>9$yoeT=aqIiN=(xH@-{P$pEJ"
    ">u_0cq;O-gPu>@qMdYFnXdcpB9AsVxn}&mG5;gb;{4D>aIc?5@o_G$zTm1t6GK6<RK96*s$$OzY9((AkvJ-F(F7`oD>yvygNm77b"
    "vI=X?={Bw-ZY>H)cRcfByqGdu$gANSN7wL;{;GY6j4^1X9(m!jX&(;4BD!=(I-K@X;jGB(czpGit{8Me9miYgl$7b#N+W>SHg`dA"
    "B)vi0W{|ia=0a>oP`Wut^%k)UN_tSe-L5M41M`TEE|1pXET-$F@WN-^bLQP)od>f^Zinb;s3Cq^vI4G3#{TzY587B9U)c~Gj}>q0"
    "FG2?6W~4jC8#g8gO@s%*%~?DYZv#`YXdc3Mw;#3O^&dM7z#CFCi%8${p*Tv8+XtaP%I<*jO@@fOAoF6Iq%~GorZ>gozBcD#Tm3#e"
    "RMN8Lr{WQI=yj24qcIUfAA<FV5k9AScwKc_&Mx>J_6n{<6`?}M$hwiXwgnf(I*k0pH(}rxXzgB_^w7J~p+adjFFP7uy7`XI;At{K"
    "eW|UoBRVZGPi-gLLAf8wY7Z3b8xzm}6hg)?@h_9mA1oe0%R~PF9DV@uCHG5M77nm?Vk%I0KkWVlnw#?oYoZ`!*mX<gQLe&4eU2%9"
    "J1koha2`G5VCVtCgE)=Wq6lsvzZ>TDdNi|EpRRAnQ`ngqK_X>4Vvg6F9i798d9@4;lv7Q335sgYOLBDWf*95p%BxXSoeMsNH-L^_"
    "B)i?|=4x^}Ect8o>F`$iF2hno(<+4@hrm%B#kwXh$Pzeqz;EKs?Ctnsvaop4E)?3rq%I<q$Xod0_~PJoiIPWg$`2Fq5PC5t&~{Fg"
    "c^E#-jD<}?Im0vcD14d`AN_<-ckwmv6;zZ=E8>O_8EvXPT}7MFGB#2r@(`9lk*y#c<06N7<6t_faf~!7WFk*cNwiFmrJ4-$2n4@|"
    "&x%NdzKHE__z?Pr8KN7C{apIU3=xo)P0G&HJ{)F>wm>~VAEg<$YTa0A?j+x$kPcuK(OpsZJigzo$|-Y1ixnbx{%P_pGtfui5rRn{"
    "6=IjQIA`iv^*!E6gyW}$^Z(%QLFN#qG}a4LZGQ}oZQuB#^%CC^^<1<yQ?Z4^bY{Mreg+c0L4{I?vEl!O+Yq0}MjB}{dVj48UWi-F"
    "RA7|=m(Lyug{mBk4ew9^mM529XS<V^K(&T<V<QXJcqh5P<dJk8$0k!jYC%jtz8|xKb5n_mb2UJ)mz7{<oTGt|(1{CI2w;+74CI(G"
    "(sG@+XUy%ekv!m5bWY||cW3f5<QYtrm@vX^Hh)U|SiiNtSuMrRdJn8lWG5C#GWVAwDyC80Ie}&=BxEzFN5fx73V9o!_X2TG`bP~-"
    "mf`jBQ5$ko9v<i4H-rww5MOBvV#Gc$dA|2p#PvvJJ_yEv9F2q=(PZ4%ErBCD_VTqdy}$Y*LzOHdTG|9On?OzY+Bf=NiQPyG6U$N&"
    "?JO|VE*}-Bm*fk`2}*p+jZjbyJizuT_@(SVDwE6MLeWQ~0E}a(^gH9zit{vBKNr0iVGix_ed)kFbfh<o<ti14B3#7=i;?TK0s@k="
    "UQt7A(mXED7}g@7JTv5I5qB+ZLP6{p%}v`8yK>QjgJF^{i?L(DqbA)x(8o9*$AjYpkz#2|JgAhnXL#m$f1B>nCWt_9km@JLg5F~y"
    "ks+qAi!Y7K33UC6dmq<W<b)k7Z?Wpm-d8cll^b+9H$U(H3t};vD*%;X;_mjF2*@T@9dU2(E66es6ct}+eh6c*#My~|Our6Ol139Z"
    "4`<(j2~=rm*4Sz$?rpve3j~eB;*-tSA;!s&0r%nT6EP<TxR2t@qtmjV)_(!ZWL%0T>U*G$pkerpPZZ-@SL=-ENo@QHB$35qZvcP~"
    "J*0<JQ|r*EzDC~D5lKQuaO}t;IOgZu=^(e72CHTavO#>vB+h@XIxZGV9m>*(7xVW)7=$BUe4&01j8G$NTR&61d7qDSV=ZKAuhs?!"
    "jX}h_UshKkNh#0AWo$H5{a1FmC0OK$arIz+g2ibrBVx`zo^{c5vX^0O)5M6Gh`>#vM0nod=#D_^XlE*997k%h2IZEbEsZ%NDa?7~"
    "?D}--F5&ravbBhe5XI&pQDih3%iVnG+3ape<7@HQ=_#*F#B!y@Ai+$8+A$gSgaF`PRem6S0M3@8uzVc%kDviqhZH7Rqn)@Tdmh%2"
    "cMD%WnLQ0XV~LE-gCcAU1Y++G#dGPMD20sTWa$Ih3yAfx*Bp!@3ro~gIi}Y1k%-+JQfZ>@xj0Z$@qGF))?GVMw0t)I8yf9YI2=E}"
    "=1gL$H3Mq*&&n4mD7Yt5+J;YIzu3E|Yi#aqyj&^bAu;Z9wl-U0CC+C~F14nHwJ;@7ec*dPDu2yL(Wgl^a<V7@&Xp^XS)2DA?w%;0"
    "<O8PrX#uP^+Tx>ZMW?7u6&H$_F-+n;->-p<|Hs5b<<}ySoF{8aJYM}c+UJ>wYv!NJpK9-4j~AVCJ@o%|3T~e"
)
